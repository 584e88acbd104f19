// What is kept in host memory never changes a bit of the run, whenever copies happen; and steps
// allocate nothing.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/gpu.h"
#include "support/late_device.h"
#include "support/test_context.h"
#include "support/tiny_run.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{256} << 20;
constexpr int kSteps = 6;

TinyRun without_offload(TinyRun run) {
  run.remat_block = "";
  run.offload_optimizer = false;
  return run;
}

void expect_equal(const Curve& actual, const Curve& expected) {
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_EQ(actual.norms, expected.norms);
  EXPECT_EQ(actual.param_norms, expected.param_norms);
}

class OffloadTest : public ::testing::TestWithParam<TinyRun> {
 protected:
  static Curve curve_of(const TinyRun& run, DeviceType device) {
    TestContext context(device, dtype_from_name(run.dtype), kArenaBytes);
    return run_tiny(*context, run, kSteps);
  }
  static Curve late_curve_of(const TinyRun& run) {
    TestContext context(std::make_unique<LateDevice>(), dtype_from_name(run.dtype), kArenaBytes);
    return run_tiny(*context, run, kSteps);
  }
};

TEST_P(OffloadTest, ChangesNoBit) {
  const Curve expected = curve_of(without_offload(GetParam()), DeviceType::kCpu);
  expect_equal(curve_of(GetParam(), DeviceType::kCpu), expected);
}

TEST_P(OffloadTest, WaitsForLateCopies) {
  const Curve expected = curve_of(without_offload(GetParam()), DeviceType::kCpu);
  expect_equal(late_curve_of(GetParam()), expected);
}

TEST_P(OffloadTest, ChangesNoBitOnGpu) {
  RT_SKIP_WITHOUT_GPU();
  const Curve expected = curve_of(without_offload(GetParam()), DeviceType::kCuda);
  expect_equal(curve_of(GetParam(), DeviceType::kCuda), expected);
}

INSTANTIATE_TEST_SUITE_P(
    Runs, OffloadTest,
    ::testing::Values(
        TinyRun{.name = "activations", .remat_block = "offload", .layers = 6},
        TinyRun{.name = "inputs", .remat_block = "offload_input", .layers = 6},
        TinyRun{.name = "two_layers", .remat_block = "offload", .layers = 2},
        TinyRun{.name = "one_layer", .remat_block = "offload", .layers = 1},
        TinyRun{.name = "bf16", .dtype = "bf16", .remat_block = "offload", .layers = 5},
        TinyRun{.name = "gqa_tied_documents_accumulate",
                .remat_block = "offload",
                .kv_heads = 2,
                .tied = true,
                .documents = true,
                .accumulate = 3,
                .layers = 4},
        TinyRun{.name = "chosen_mix",
                .remat_block = "offload_input:2,nothing_saveable:1,offload:3,save_attention:1",
                .layers = 7},
        TinyRun{.name = "any_mix",
                .remat_block = "offload:1,everything_saveable:1,offload_input:1,offload:2,"
                               "dots_saveable:1,offload_input:1,offload:1",
                .layers = 8},
        TinyRun{.name = "optimizer", .offload_optimizer = true},
        TinyRun{.name = "optimizer_bf16", .dtype = "bf16", .offload_optimizer = true},
        TinyRun{.name = "optimizer_palm_tied",
                .tied = true,
                .optimizer = "palm",
                .offload_optimizer = true},
        TinyRun{.name = "optimizer_palm_bf16",
                .dtype = "bf16",
                .accumulate = 2,
                .optimizer = "palm",
                .offload_optimizer = true},
        TinyRun{.name = "all",
                .dtype = "bf16",
                .remat_block = "offload",
                .accumulate = 2,
                .offload_optimizer = true,
                .grad_dtype = "bf16",
                .layers = 4}),
    [](const auto& run) { return run.param.name; });

// After the first step, in which events and back ends may still grow.
TEST(OffloadAllocationTest, StepsAllocateNothing) {
  TinyRun run{.name = "all", .remat_block = "offload", .offload_optimizer = true};
  const auto allocations_of = [&](int steps) {
    auto device = std::make_unique<LateDevice>();
    const LateDevice& counter = *device;
    TestContext context(std::move(device), DType::kFloat32, kArenaBytes);
    run_tiny(*context, run, steps);
    return counter.num_allocations();
  };
  EXPECT_EQ(allocations_of(5), allocations_of(0));
}

// One rounding of a micro-batch's gradient to bf16 is off by 2^-9 at most, and as many again where
// micro-batches are added.
TEST(GradientDtypeTest, Bfloat16IsNearFp32) {
  constexpr double kUlp = 1.0 / 256;
  for (const int accumulate : {1, 3}) {
    TinyRun run{.name = "grad_dtype", .accumulate = accumulate};
    const auto curve = [&](const std::string& dtype) {
      run.grad_dtype = dtype;
      TestContext context(DType::kFloat32, kArenaBytes);
      return run_tiny(*context, run, kSteps);
    };
    const Curve expected = curve("fp32");
    const Curve actual = curve("bf16");
    EXPECT_EQ(actual.losses[0], expected.losses[0]);
    EXPECT_NE(actual.norms, expected.norms) << "nothing was rounded";
    for (std::size_t i = 0; i < expected.norms.size(); ++i) {
      EXPECT_NEAR(actual.norms[i], expected.norms[i], kUlp * expected.norms[i]) << i;
    }
    for (std::size_t i = 0; i < expected.losses.size(); ++i) {
      EXPECT_NEAR(actual.losses[i], expected.losses[i], kUlp * expected.losses[i]) << i;
    }
  }
}

}  // namespace
}  // namespace ringtrain
