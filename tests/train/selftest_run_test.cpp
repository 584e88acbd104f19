#include "ringtrain/train/selftest_run.h"

#include <gtest/gtest.h>

namespace ringtrain {
namespace {

SelftestOptions options_of(std::int64_t seq_length, DeviceType device,
                           const std::string& attention_type = "ring_blockwise", int ulysses = 1) {
  TrainConfig config;
  config.llama.num_attention_heads = 32;
  config.llama.num_key_value_heads = 8;
  config.llama.hidden_size = 4096;
  config.llama.attention_type = attention_type;
  config.train_dataset.json_dataset.batch_size = 4;
  config.train_dataset.json_dataset.seq_length = seq_length;
  MeshShape shape{1, 2, 2, 4};
  shape.ulysses = ulysses;
  return selftest_options(config, config.train_dataset, shape, device, SelftestForm::kShort);
}

TEST(SelftestOptions, AreTheShapeOfTheRun) {
  const SelftestOptions options = options_of(8192, DeviceType::kCuda);
  EXPECT_TRUE(options.rotates);
  ASSERT_TRUE(options.block);
  EXPECT_EQ(options.block->layout.group_length(), 2048);
  EXPECT_EQ(options.block->batch, 2);
  EXPECT_EQ(options.block->heads, 16);
  EXPECT_EQ(options.block->kv_heads, 4);
  EXPECT_EQ(options.block->head_dim, 128);
  EXPECT_EQ(options.block->head_groups, 1);

  const SelftestOptions hybrid = options_of(8192, DeviceType::kCuda, "ring_blockwise", 2);
  ASSERT_TRUE(hybrid.block);
  EXPECT_EQ(hybrid.block->layout.group_length(), 4096);
  EXPECT_EQ(hybrid.block->heads, 8);
  EXPECT_EQ(hybrid.block->kv_heads, 2);
}

TEST(SelftestOptions, HaveABlockOnlyForARing) {
  EXPECT_FALSE(options_of(8192, DeviceType::kCuda, "blockwise").rotates);
  EXPECT_FALSE(options_of(8192, DeviceType::kCuda, "blockwise").block);
  EXPECT_FALSE(options_of(8192, DeviceType::kCuda, "ring_blockwise", 4).block);
}

TEST(SelftestOptions, LongBlocksAreTimedInPartOrNotAtAll) {
  const SelftestOptions part = options_of(393216, DeviceType::kCuda);
  ASSERT_TRUE(part.block);
  EXPECT_EQ(part.block->head_groups, 2);
  EXPECT_FALSE(options_of(1 << 24, DeviceType::kCuda).block);
  EXPECT_FALSE(options_of(65536, DeviceType::kCpu).block);
  EXPECT_TRUE(options_of(1024, DeviceType::kCpu).block);
}

TEST(SelftestBytes, CountTheTensorsOfABlock) {
  const SelftestOptions options = options_of(8192, DeviceType::kCuda);
  const std::size_t rows = 2 * 2048, query = rows * 16 * 128, key_value = 2 * rows * 4 * 128;
  EXPECT_EQ(Selftest::bytes_of(*options.block),
            2 * query * 2 + 2 * key_value * 2 + query * 4 + rows * 16 * 4);
}

}  // namespace
}  // namespace ringtrain
