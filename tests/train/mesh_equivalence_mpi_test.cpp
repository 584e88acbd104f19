// The same run on every mesh: losses and gradient norms equal those of one CPU rank in fp32,
// whatever is cut, kept or computed again.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "ringtrain/config/validate.h"
#include "ringtrain/core/error.h"
#include "support/gpu.h"
#include "support/test_context.h"
#include "support/test_world.h"
#include "support/tiny_run.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{256} << 20;
constexpr int kRanksPerGpu = 4;

/// Meshes of all ranks of the world.
std::vector<std::string> meshes_of(int world_size) {
  switch (world_size) {
    case 1:
      return {"1,1,1,1"};
    case 2:
      return {"2,1,1,1", "1,2,1,1", "1,1,2,1", "1,1,1,2"};
    case 3:
      return {"1,1,1,3"};
    case 4:
      return {"1,1,1,4", "1,1,4,1", "2,1,1,2", "1,2,2,1", "1,1,2,2"};
    case 8:
      return {"1,2,2,2", "2,1,2,2", "2,2,1,2", "1,1,2,4"};
    default:
      return {};
  }
}

/// Meshes with an sp axis, for runs that exchange heads over it.
std::vector<std::string> ulysses_meshes_of(int world_size) {
  switch (world_size) {
    case 2:
      return {"1,1,1,2"};
    case 4:
      return {"1,1,1,4", "1,1,2,2", "1,2,1,2"};
    case 8:
      return {"1,1,1,8", "1,1,2,4", "2,1,1,4"};
    default:
      return {};
  }
}

// Ranks that share a GPU talk through sockets: fewer meshes and steps there.
std::vector<std::string> gpu_meshes_of(int world_size) {
  if (world_size == 1) return {"1,1,1,1"};
  if (world_size == 2) return {"1,2,1,1", "1,1,2,1", "1,1,1,2"};
  if (world_size == 4) return {"1,1,2,2", "2,1,1,2"};
  return {};
}

/// Whether the heads of a run can be cut over a mesh.
bool fits(const TinyRun& run, const MeshShape& mesh) {
  const ModelConfig model = tiny_config(run).llama;
  try {
    const int ulysses = parse_ulysses(run.sp_type, run.ulysses_size, mesh.sp);
    validate_model_on_mesh(model, {mesh.dp, mesh.fsdp, mesh.tp, mesh.sp, ulysses});
  } catch (const InvalidArgument&) {
    return false;
  }
  return true;
}

/// Relative errors of the first loss and gradient norm, and of all others.
struct Tolerances {
  double first_loss, first_norm, loss, norm;
};
constexpr Tolerances kCpu{1e-6, 1e-5, 1e-5, 1e-4};
// Another device sums in another order: the run starts further apart.
constexpr Tolerances kGpu{1e-5, 1e-4, 1e-4, 1e-3};

void expect_near(double actual, double expected, double relative, const std::string& what) {
  EXPECT_LE(std::abs(actual - expected), relative * std::abs(expected))
      << what << ": " << actual << ", one rank has " << expected;
}

void expect_near(const Curve& actual, const Curve& expected, const Tolerances& tolerances) {
  expect_near(actual.losses[0], expected.losses[0], tolerances.first_loss, "first loss");
  expect_near(actual.norms[0], expected.norms[0], tolerances.first_norm, "first gradient norm");
  for (std::size_t i = 1; i < actual.losses.size(); ++i) {
    expect_near(actual.losses[i], expected.losses[i], tolerances.loss, "loss " + std::to_string(i));
  }
  for (std::size_t i = 1; i < actual.norms.size(); ++i) {
    expect_near(actual.norms[i], expected.norms[i], tolerances.norm, "norm " + std::to_string(i));
  }
}

/// The same run in fp32 on one CPU rank, without remat, ring or layout.
Curve reference_curve(TinyRun run, int steps) {
  run.dtype = "fp32";
  run.remat_block = run.remat_attention = run.remat_mlp = "";
  run.attention_type = "standard";
  run.layout = "contiguous";
  TestContext one(DType::kFloat32, kArenaBytes);
  return run_tiny(*one, run, steps);
}

double largest_relative_error(const std::vector<double>& actual,
                              const std::vector<double>& expected) {
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]) / std::abs(expected[i]);
    if (!(error <= largest)) largest = error;  // NaN counts
  }
  return largest;
}

struct Mesh {
  std::string name;
  MeshShape shape;
};

/// Those of `names` on which `run` is possible.
std::vector<Mesh> fitting_meshes(const std::vector<std::string>& names, const TinyRun& run) {
  std::vector<Mesh> meshes;
  for (const std::string& name : names) {
    const MeshShape shape = parse_mesh(name, test_world().size());
    if (fits(run, shape)) meshes.push_back({name, shape});
  }
  return meshes;
}

Curve curve_on(DeviceType device, const Mesh& mesh, const TinyRun& run, int steps) {
  TestContext context(test_world(), mesh.name, device, dtype_from_name(run.dtype), kArenaBytes,
                      parse_ulysses(run.sp_type, run.ulysses_size, mesh.shape.sp), run.transport);
  return run_tiny(*context, run, steps);
}

/// bf16 rounding adds up over a run: the losses of a mesh may be twice as far from fp32 as those of
/// one bf16 rank of the same device are, since GPUs round weights of attention and their gradients
/// for the tensor cores and the CPU does not. How far one run is varies threefold with the initial
/// weights: means over some of them are compared. Later gradient norms depend on the path taken;
/// the first one does not, nor does the first loss.
void expect_rivals_on(DeviceType device, const std::vector<Mesh>& meshes, TinyRun run, int steps) {
  constexpr double kBfloat16Ulp = 1.0 / 256;
  double one_rank = 0;
  std::vector<double> errors(meshes.size());
  for (const std::uint64_t seed : {1, 2, 3, 4}) {
    run.seed = seed;
    const Curve fp32 = reference_curve(run, steps);
    TestContext one(device, DType::kBFloat16, kArenaBytes);
    one_rank += largest_relative_error(run_tiny(*one, run, steps).losses, fp32.losses);
    for (std::size_t i = 0; i < meshes.size(); ++i) {
      SCOPED_TRACE("mesh " + meshes[i].name + ", seed " + std::to_string(seed));
      const Curve actual = curve_on(device, meshes[i], run, steps);
      errors[i] += largest_relative_error(actual.losses, fp32.losses);
      expect_near(actual.losses[0], fp32.losses[0], kBfloat16Ulp, "first loss");
      expect_near(actual.norms[0], fp32.norms[0], kBfloat16Ulp, "first gradient norm");
    }
  }
  for (std::size_t i = 0; i < meshes.size(); ++i) {
    EXPECT_LE(errors[i], 2 * one_rank) << "mesh " << meshes[i].name;
  }
}

void expect_reference_on(DeviceType device, const std::vector<std::string>& names,
                         const TinyRun& run, int steps, const Tolerances& tolerances) {
  const std::vector<Mesh> meshes = fitting_meshes(names, run);
  if (run.dtype == "bf16") return expect_rivals_on(device, meshes, run, steps);
  const Curve expected = reference_curve(run, steps);
  for (const Mesh& mesh : meshes) {
    SCOPED_TRACE("mesh " + mesh.name);
    expect_near(curve_on(device, mesh, run, steps), expected, tolerances);
  }
}

class MeshEquivalence : public ::testing::TestWithParam<TinyRun> {};

TEST_P(MeshEquivalence, EqualsOneRank) {
  const TinyRun& run = GetParam();
  constexpr int kSteps = 20;
  const Curve expected = reference_curve(run, kSteps);
  ASSERT_LT(expected.losses[kSteps - 2], 0.97 * expected.losses[0]) << "nothing is learned";
  const int world_size = test_world().size();
  expect_reference_on(DeviceType::kCpu,
                      run.sp_type == "ring" ? meshes_of(world_size) : ulysses_meshes_of(world_size),
                      run, kSteps, kCpu);
}

class GpuMeshEquivalence : public ::testing::TestWithParam<TinyRun> {
 protected:
  void SetUp() override {
    RT_SKIP_WITHOUT_GPU();
    if (test_world().size() > kRanksPerGpu * cuda_device_count()) GTEST_SKIP() << "too few GPUs";
  }
};

TEST_P(GpuMeshEquivalence, EqualsOneCpuRank) {
  const TinyRun& run = GetParam();
  const int world_size = test_world().size();
  expect_reference_on(DeviceType::kCuda, gpu_meshes_of(world_size), run, world_size == 1 ? 20 : 8,
                      kGpu);
}

std::string run_name(const ::testing::TestParamInfo<TinyRun>& run) {
  return run.param.name;
}

INSTANTIATE_TEST_SUITE_P(
    Runs, MeshEquivalence,
    ::testing::Values(
        TinyRun{.name = "zigzag"}, TinyRun{.name = "striped", .layout = "striped"},
        TinyRun{.name = "contiguous", .layout = "contiguous"},
        TinyRun{.name = "gathered", .attention_type = "blockwise"},
        TinyRun{.name = "standard", .layout = "striped", .attention_type = "standard"},
        TinyRun{.name = "ring_standard", .attention_type = "ring_standard"},
        TinyRun{.name = "remat_nothing", .remat_block = "nothing_saveable"},
        TinyRun{.name = "remat_dots", .remat_block = "dots_saveable"},
        TinyRun{.name = "save_attention", .remat_block = "save_attention"},
        TinyRun{.name = "gqa_tied", .kv_heads = 2, .tied = true},
        TinyRun{.name = "masked", .masked = true},
        TinyRun{.name = "masked_sequence", .masked = true, .loss_reduction = "sequence"},
        TinyRun{.name = "documents", .kv_heads = 2, .documents = true},
        TinyRun{.name = "documents_striped", .layout = "striped", .documents = true},
        TinyRun{.name = "accumulate", .masked = true, .accumulate = 4},
        TinyRun{.name = "palm", .kv_heads = 2, .tied = true, .optimizer = "palm"},
        TinyRun{.name = "bf16", .dtype = "bf16"},
        TinyRun{.name = "bf16_gqa_tied_gathered",
                .dtype = "bf16",
                .attention_type = "blockwise",
                .remat_block = "nothing_saveable",
                .kv_heads = 2,
                .tied = true}),
    run_name);

TinyRun ulysses(TinyRun run) {
  run.name = "ulysses_" + run.name;
  run.sp_type = "ulysses";
  return run;
}
TinyRun hybrid(int ulysses_size, TinyRun run) {
  run.name = "hybrid_" + std::to_string(ulysses_size) + "_" + run.name;
  run.sp_type = "hybrid";
  run.ulysses_size = ulysses_size;
  return run;
}

// With four ranks and two key/value heads, or two and one, ranks share key/value heads.
INSTANTIATE_TEST_SUITE_P(
    Ulysses, MeshEquivalence,
    ::testing::Values(
        ulysses({.name = "plain"}), ulysses({.name = "gathered", .attention_type = "blockwise"}),
        ulysses({.name = "gqa_documents", .kv_heads = 2, .documents = true}),
        ulysses({.name = "one_kv_head_masked",
                 .remat_block = "nothing_saveable",
                 .kv_heads = 1,
                 .tied = true,
                 .masked = true}),
        ulysses({.name = "save_attention", .remat_block = "save_attention", .documents = true}),
        ulysses({.name = "bf16", .dtype = "bf16", .kv_heads = 2, .documents = true}),
        hybrid(2, {.name = "zigzag", .layout = "zigzag"}),
        hybrid(2, {.name = "striped", .layout = "striped", .kv_heads = 2}),
        hybrid(2, {.name = "contiguous", .layout = "contiguous", .documents = true}),
        hybrid(2, {.name = "gathered", .attention_type = "blockwise", .kv_heads = 1}),
        hybrid(2, {.name = "one_kv_head_documents",
                   .layout = "striped",
                   .remat_block = "nothing_saveable",
                   .kv_heads = 1,
                   .masked = true,
                   .documents = true}),
        hybrid(2, {.name = "save_attention_accumulate",
                   .remat_block = "save_attention",
                   .accumulate = 4,
                   .loss_reduction = "sequence"}),
        hybrid(4, {.name = "gqa_documents", .kv_heads = 2, .documents = true}),
        hybrid(2, {.name = "bf16", .dtype = "bf16", .kv_heads = 1, .documents = true})),
    run_name);

TinyRun copied(TinyRun run) {
  run.name = "copied_" + run.name;
  run.transport = Transport::kCopyEngines;
  return run;
}

INSTANTIATE_TEST_SUITE_P(
    Runs, GpuMeshEquivalence,
    ::testing::Values(TinyRun{.name = "zigzag"},
                      TinyRun{
                          .name = "gathered", .layout = "striped", .attention_type = "blockwise"},
                      TinyRun{.name = "remat_nothing", .remat_block = "nothing_saveable"},
                      TinyRun{.name = "gqa_tied_documents",
                              .kv_heads = 2,
                              .tied = true,
                              .masked = true,
                              .documents = true},
                      TinyRun{.name = "accumulate_palm", .accumulate = 2, .optimizer = "palm"},
                      TinyRun{.name = "bf16", .dtype = "bf16", .kv_heads = 2, .documents = true},
                      // Without documents the halves of a step run on two streams.
                      TinyRun{.name = "bf16_two_streams", .dtype = "bf16", .kv_heads = 2},
                      ulysses({.name = "one_kv_head", .kv_heads = 1, .documents = true}),
                      ulysses({.name = "bf16", .dtype = "bf16", .kv_heads = 2}),
                      copied({.name = "gqa_documents", .kv_heads = 2, .documents = true}),
                      copied({.name = "bf16_two_streams", .dtype = "bf16", .kv_heads = 2}),
                      copied(ulysses({.name = "bf16", .dtype = "bf16", .kv_heads = 2}))),
    run_name);

}  // namespace
}  // namespace ringtrain
