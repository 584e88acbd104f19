// On a mesh, too, what is kept in host memory changes no bit.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/test_context.h"
#include "support/test_world.h"
#include "support/tiny_run.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{64} << 20;
constexpr int kSteps = 5;

std::vector<std::string> meshes_of(int world_size) {
  if (world_size == 1) return {"1,1,1,1"};
  if (world_size == 2) return {"2,1,1,1", "1,2,1,1", "1,1,2,1", "1,1,1,2"};
  if (world_size == 4) return {"1,1,2,2", "2,1,1,2"};
  return {};
}

class OffloadMeshTest : public ::testing::TestWithParam<TinyRun> {};

TEST_P(OffloadMeshTest, ChangesNoBit) {
  TinyRun plain = GetParam();
  plain.remat_block = "";
  plain.offload_optimizer = false;
  for (const std::string& mesh : meshes_of(test_world().size())) {
    SCOPED_TRACE("mesh " + mesh);
    const auto curve = [&](const TinyRun& run) {
      const int sp = parse_mesh(mesh, test_world().size()).sp;
      TestContext context(test_world(), mesh, DeviceType::kCpu, dtype_from_name(run.dtype),
                          kArenaBytes, parse_ulysses(run.sp_type, run.ulysses_size, sp));
      return run_tiny(*context, run, kSteps);
    };
    const Curve actual = curve(GetParam());
    const Curve expected = curve(plain);
    EXPECT_EQ(actual.losses, expected.losses);
    EXPECT_EQ(actual.norms, expected.norms);
    EXPECT_EQ(actual.param_norms, expected.param_norms);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Runs, OffloadMeshTest,
    ::testing::Values(TinyRun{.name = "fp32",
                              .remat_block = "offload:2,offload_input:1,save_attention:1",
                              .accumulate = 2,
                              .offload_optimizer = true,
                              .layers = 4},
                      TinyRun{.name = "bf16",
                              .dtype = "bf16",
                              .remat_block = "offload",
                              .offload_optimizer = true,
                              .grad_dtype = "bf16",
                              .layers = 4},
                      TinyRun{.name = "ulysses",
                              .sp_type = "ulysses",
                              .remat_block = "offload:2,offload_input:1,save_attention:1",
                              .documents = true,
                              .layers = 4},
                      TinyRun{.name = "palm_tied",
                              .remat_block = "offload_input",
                              .tied = true,
                              .optimizer = "palm",
                              .offload_optimizer = true}),
    [](const auto& run) { return run.param.name; });

}  // namespace
}  // namespace ringtrain
