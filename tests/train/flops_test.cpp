#include "ringtrain/train/flops.h"

#include <gtest/gtest.h>

#include <vector>

namespace ringtrain {
namespace {

ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 10;
  config.hidden_size = 8;
  config.intermediate_size = 12;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  return config;
}

TEST(FlopsTest, CountsAllWeightsButTheEmbedding) {
  // LLaMA-7B, published total less 32000 x 4096.
  EXPECT_EQ(model_flops_per_token(ModelConfig{}, 0), 6.0 * (6738415616 - 131072000));

  ModelConfig llama3_8b;  // less 128256 x 4096
  llama3_8b.vocab_size = 128256;
  llama3_8b.intermediate_size = 14336;
  llama3_8b.num_key_value_heads = 8;
  EXPECT_EQ(model_flops_per_token(llama3_8b, 0), 6.0 * (8030261248 - 525336576));
}

TEST(FlopsTest, MatchesTheFormulaWrittenOut) {
  const ModelConfig config = small_config();
  // A layer: q, k, v, o 4 x 8 x 8, feed-forward 3 x 8 x 12, two norms of 8; then norm and head.
  const double weights = 2 * (256 + 288 + 16) + 8 + 80;
  EXPECT_EQ(model_flops_per_token(config, 32 / 2.0), 6 * weights + 6.0 * 32 * 8 * 2);
}

TEST(FlopsTest, TiedHeadDoesTheSameWork) {
  ModelConfig tied = small_config();
  tied.tie_word_embeddings = true;
  EXPECT_EQ(model_flops_per_token(tied, 16), model_flops_per_token(small_config(), 16));
}

TEST(FlopsTest, AttentionFollowsHeadsTimesHeadDim) {
  ModelConfig wide = small_config();
  wide.head_dim = 8;  // twice hidden / heads
  const double per_key_narrow =
      model_flops_per_token(small_config(), 1) - model_flops_per_token(small_config(), 0);
  const double per_key_wide = model_flops_per_token(wide, 1) - model_flops_per_token(wide, 0);
  EXPECT_EQ(per_key_wide, 2 * per_key_narrow);
}

TEST(FlopsTest, DocumentsShortenTheAttendedContext) {
  EXPECT_EQ(mean_attended_keys({}, 8), 4);
  EXPECT_EQ(mean_attended_keys(std::vector<std::int32_t>(16, 0), 8), 4);
  // Two documents of half the row: half the keys, in both rows.
  const std::vector<std::int32_t> halves = {0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4};
  EXPECT_EQ(mean_attended_keys(halves, 8), 2);
}

}  // namespace
}  // namespace ringtrain
