// What is kept between forward and backward never changes a bit of the run.
#include "ringtrain/model/remat.h"

#include <gtest/gtest.h>

#include <string>

#include "ringtrain/core/error.h"
#include "support/gpu.h"
#include "support/test_context.h"
#include "support/tiny_run.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{256} << 20;
constexpr int kSteps = 6;

Curve curve_of(const TinyRun& run, DeviceType device) {
  TestContext context(device, dtype_from_name(run.dtype), kArenaBytes);
  return run_tiny(*context, run, kSteps);
}

class RematTest : public ::testing::TestWithParam<TinyRun> {
 protected:
  static void expect_same_bits(DeviceType device) {
    for (const char* dtype : {"fp32", "bf16"}) {
      TinyRun run = GetParam();
      run.dtype = dtype;
      TinyRun plain;
      plain.dtype = dtype;
      const Curve actual = curve_of(run, device);
      const Curve expected = curve_of(plain, device);
      EXPECT_EQ(actual.losses, expected.losses) << dtype;
      EXPECT_EQ(actual.norms, expected.norms) << dtype;
    }
  }
};

TEST_P(RematTest, ChangesNoBit) {
  expect_same_bits(DeviceType::kCpu);
}

TEST_P(RematTest, ChangesNoBitOnGpu) {
  RT_SKIP_WITHOUT_GPU();
  expect_same_bits(DeviceType::kCuda);
}

INSTANTIATE_TEST_SUITE_P(
    Policies, RematTest,
    ::testing::Values(TinyRun{.name = "nothing", .remat_block = "nothing_saveable"},
                      TinyRun{.name = "dots", .remat_block = "dots_saveable"},
                      TinyRun{.name = "save_attention", .remat_block = "save_attention"},
                      TinyRun{.name = "attention_nothing", .remat_attention = "nothing_saveable"},
                      TinyRun{.name = "attention_dots", .remat_attention = "dots_saveable"},
                      TinyRun{.name = "attention_saved", .remat_attention = "save_attention"},
                      TinyRun{.name = "mlp_nothing", .remat_mlp = "nothing_saveable"},
                      TinyRun{.name = "mlp_dots", .remat_mlp = "dots_saveable"}),
    [](const auto& run) { return run.param.name; });

TEST(RematPlanTest, BlockBoundsItsParts) {
  ModelConfig config;
  config.remat_block = "nothing_saveable";
  config.remat_mlp = "dots_saveable";
  EXPECT_FALSE(make_remat_plans(config)[0].gate_up);
  config.remat_block = "dots_saveable";
  EXPECT_TRUE(make_remat_plans(config)[0].gate_up);
  EXPECT_FALSE(make_remat_plans(config)[0].activation);
  config.remat_mlp = "save_attention";
  EXPECT_THROW(make_remat_plans(config), InvalidArgument);
  config.remat_mlp = "everything";
  EXPECT_THROW(make_remat_plans(config), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain
