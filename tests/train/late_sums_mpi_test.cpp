// Sums over tp that happen as late as the events allow change no bit of a run.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "support/test_context.h"
#include "support/test_world.h"
#include "support/timed_sums.h"
#include "support/tiny_run.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{64} << 20;
constexpr int kSteps = 5;

std::vector<std::string> meshes_of(int world_size) {
  if (world_size == 2) return {"1,1,2,1"};
  if (world_size == 4) return {"1,1,4,1", "1,1,2,2"};
  if (world_size == 8) return {"1,2,2,2"};
  return {};
}

class LateSumsTest : public ::testing::TestWithParam<TinyRun> {};

TEST_P(LateSumsTest, ChangeNoBit) {
  for (const std::string& mesh : meshes_of(test_world().size())) {
    SCOPED_TRACE("mesh " + mesh);
    const auto curve = [&](SumTime time) {
      TestContext context(test_world(), mesh, DeviceType::kCpu, dtype_from_name(GetParam().dtype),
                          kArenaBytes);
      auto& tp = context->mesh.tp;
      tp = with_sums(time, std::move(tp));
      return run_tiny(*context, GetParam(), kSteps);
    };
    const Curve actual = curve(SumTime::kLate);
    const Curve expected = curve(SumTime::kAtOnce);
    EXPECT_EQ(actual.losses, expected.losses);
    EXPECT_EQ(actual.norms, expected.norms);
    EXPECT_EQ(actual.param_norms, expected.param_norms);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Runs, LateSumsTest,
    ::testing::Values(TinyRun{.name = "fp32"},
                      TinyRun{.name = "remat_nothing", .remat_block = "nothing_saveable"},
                      TinyRun{.name = "remat_dots", .remat_block = "dots_saveable"},
                      TinyRun{.name = "offload",
                              .remat_block = "offload:3,save_attention:1",
                              .offload_optimizer = true,
                              .layers = 4},
                      TinyRun{.name = "bf16_tied", .dtype = "bf16", .tied = true}),
    [](const auto& run) { return run.param.name; });

}  // namespace
}  // namespace ringtrain
