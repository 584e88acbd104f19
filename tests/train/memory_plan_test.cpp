// The plan is what a run uses at its fullest, to the byte.
#include "ringtrain/train/memory_plan.h"

#include <gtest/gtest.h>

#include <string>

#include "ringtrain/train/engine.h"
#include "support/test_context.h"
#include "support/tiny_run.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{256} << 20;

class MemoryPlanTest : public ::testing::TestWithParam<TinyRun> {};

TEST_P(MemoryPlanTest, IsTheHighWaterMark) {
  const TinyRun& run = GetParam();
  const DType dtype = dtype_from_name(run.dtype);
  const TrainConfig config = tiny_config(run);
  const MemoryPlan plan = plan_memory({{}, {}, DeviceType::kCpu, dtype}, [&](Context& meta) {
    Engine(meta, config, {.train = true, .evaluate = false}).rehearse();
  });
  TestContext context(dtype, kArenaBytes);
  run_tiny(*context, run, run.accumulate);
  EXPECT_EQ(plan.device.bytes, context->arena.peak());
  EXPECT_EQ(plan.host.bytes, context->host.peak());
}

INSTANTIATE_TEST_SUITE_P(
    Runs, MemoryPlanTest,
    ::testing::Values(
        TinyRun{.name = "everything"},
        TinyRun{.name = "dots", .dtype = "bf16", .remat_block = "dots_saveable"},
        TinyRun{.name = "save_attention", .remat_block = "save_attention"},
        TinyRun{.name = "nothing", .remat_block = "nothing_saveable"},
        TinyRun{.name = "offload", .remat_block = "offload", .layers = 5},
        TinyRun{.name = "offload_input", .remat_block = "offload_input"},
        TinyRun{.name = "gqa_tied_documents", .kv_heads = 2, .tied = true, .documents = true},
        TinyRun{.name = "palm_on_host",
                .dtype = "bf16",
                .accumulate = 2,
                .optimizer = "palm",
                .offload_optimizer = true},
        TinyRun{.name = "bf16_gradients", .dtype = "bf16", .grad_dtype = "bf16"},
        TinyRun{.name = "mix",
                .remat_block = "offload:1,nothing_saveable:1,dots_saveable:1",
                .offload_optimizer = true}),
    [](const auto& run) { return run.param.name; });

TEST(MemoryPlan, TheLastTwoOffloadedLayersStayOnTheDevice) {
  const auto host_bytes = [](int layers, const std::string& policy) {
    const TrainConfig config =
        tiny_config({.name = "offload", .remat_block = policy, .layers = layers});
    const auto rehearse = [&](Context& meta) {
      Engine(meta, config, {.train = true, .evaluate = false}).rehearse();
    };
    return plan_memory({{}, {}, DeviceType::kCpu, DType::kFloat32}, rehearse).host.bytes;
  };
  const std::size_t others = host_bytes(1, "nothing_saveable");
  EXPECT_EQ(host_bytes(1, "offload"), others);
  EXPECT_EQ(host_bytes(2, "offload"), others);
  EXPECT_EQ(host_bytes(4, "offload_input:1,everything_saveable:2,offload:1"), others);
  const std::size_t layer = host_bytes(3, "offload") - others;
  EXPECT_GT(layer, 0u);
  EXPECT_EQ(host_bytes(6, "offload"), others + 4 * layer);
}

}  // namespace
}  // namespace ringtrain
