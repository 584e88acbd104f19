#include "ringtrain/config/suggestion.h"

#include <gtest/gtest.h>

#include <vector>

#include "ringtrain/config/model_config.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

const std::vector<std::string> kNames{"mesh_dim", "total_steps", "optimizer.adamw_optimizer.lr",
                                      "optimizer.palm_optimizer.lr", "llama.hidden_size"};

TEST(Suggestion, EditDistanceCountsSwapsOnce) {
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("mesh_dim", "mehs_dim"), 1);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("same", "same"), 0);
}

TEST(Suggestion, NearNamesAreSuggested) {
  EXPECT_EQ(did_you_mean("mesh-dim", kNames), "; did you mean 'mesh_dim'?");
  EXPECT_EQ(did_you_mean("hiden_size", kNames), "; did you mean 'llama.hidden_size'?");
  EXPECT_EQ(did_you_mean("lr", kNames),
            "; did you mean 'optimizer.adamw_optimizer.lr' or 'optimizer.palm_optimizer.lr'?");
  EXPECT_EQ(did_you_mean("colour", kNames), "");
  EXPECT_EQ(did_you_mean("", kNames), "");
}

TEST(Suggestion, ChoicesAreListed) {
  ModelConfig config;
  EXPECT_EQ(config.resolved_attention_type(), AttentionType::kStandard);
  config.scan_attention = true;
  EXPECT_EQ(config.resolved_attention_type(), AttentionType::kBlockwise);
  config.attention_type = "ring_blockwise";
  EXPECT_EQ(config.resolved_attention_type(), AttentionType::kRingBlockwise);
  config.attention_type = "flash";
  try {
    config.resolved_attention_type();
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "llama.attention_type 'flash' is not one of 'standard', 'ring_standard', "
                 "'blockwise', 'ring_blockwise'");
  }
  EXPECT_EQ(parse_remat("", "remat_block"), RematPolicy::kEverythingSaveable);
  EXPECT_EQ(parse_remat("nothing_saveable", "remat_block"), RematPolicy::kNothingSaveable);
  EXPECT_THROW(parse_remat("full", "remat_block"), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain
