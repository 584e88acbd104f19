// The same run on every mesh: losses and gradient norms equal those of one rank, whatever is cut.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "ringtrain/data/cut_batch.h"
#include "ringtrain/train/engine.h"
#include "support/gpu.h"
#include "support/host_tensor.h"
#include "support/test_context.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{256} << 20;
constexpr std::int64_t kRows = 4;
constexpr std::int64_t kTokens = 48;
constexpr std::int64_t kVocabulary = 97;  // tp pads it
constexpr int kSteps = 20;
constexpr int kGpuSteps = 8;

struct Case {
  std::string name;

  std::string layout = "auto";
  std::string attention_type = "ring_blockwise";
  std::string remat_block{};
  std::int64_t kv_heads = 4;
  bool tied = false;
  bool masked = false;
  bool documents = false;
  int accumulate = 1;
  std::string optimizer = "adamw";
  std::string loss_reduction = "token";
};

// Ranks that share a GPU talk through sockets: fewer meshes and steps there.
std::vector<std::string> gpu_meshes_of(int world_size) {
  switch (world_size) {
    case 2:
      return {"1,2,1,1", "1,1,2,1", "1,1,1,2"};
    case 4:
      return {"1,1,2,2", "2,1,1,2"};
    default:
      return {"1,1,1,1"};
  }
}

std::vector<std::string> meshes_of(int world_size) {
  switch (world_size) {
    case 2:
      return {"2,1,1,1", "1,2,1,1", "1,1,2,1", "1,1,1,2"};
    case 4:
      return {"1,1,1,4", "1,1,4,1", "2,1,1,2", "1,2,2,1", "1,1,2,2"};
    case 8:
      return {"1,2,2,2", "2,1,2,2", "2,2,1,2", "1,1,2,4"};
    default:
      return {"1,1,1,1"};
  }
}

TrainConfig make_config(const Case& c) {
  TrainConfig config;
  config.dtype = "fp32";
  config.sp_layout = c.layout;
  config.packing = c.documents ? "documents" : "none";
  config.loss_reduction = c.loss_reduction;
  config.loss_chunk_size = 11;
  config.train_dataset.json_dataset.batch_size = kRows;
  config.train_dataset.json_dataset.seq_length = kTokens;
  ModelConfig& model = config.llama;
  model.vocab_size = kVocabulary;
  model.hidden_size = 48;
  model.intermediate_size = 88;
  model.num_hidden_layers = 3;
  model.num_attention_heads = 4;
  model.num_key_value_heads = c.kv_heads;
  model.initializer_range = 0.1;
  model.tie_word_embeddings = c.tied;
  model.attention_type = c.attention_type;
  model.scan_query_chunk_size = 7;  // chunks that divide nothing
  model.scan_key_chunk_size = 5;
  model.scan_mlp = true;
  model.scan_mlp_chunk_size = 13;
  model.remat_block = c.remat_block;
  config.optimizer.type = c.optimizer;
  config.optimizer.accumulate_gradient_steps = c.accumulate;
  config.optimizer.adamw_optimizer.lr = 3e-3;
  config.optimizer.adamw_optimizer.lr_warmup_steps = 2;
  config.optimizer.adamw_optimizer.lr_decay_steps = 100;
  config.optimizer.palm_optimizer.lr = 1e-3;
  config.optimizer.palm_optimizer.lr_warmup_steps = 4;
  return config;
}

GlobalBatch make_batch(const Case& c, int step) {
  GlobalBatch batch;
  batch.batch_size = kRows;
  batch.seq_length = kTokens;
  const std::int64_t n = kRows * kTokens;
  const auto seed = static_cast<std::uint64_t>(step % 3);  // so that there is something to learn
  batch.inputs = random_integers(n, 0, kVocabulary, seed);
  batch.targets = random_integers(n, 0, kVocabulary, 100 + seed);
  const std::vector<std::int32_t> coin = random_integers(n, 0, 3, 200 + seed);
  const std::vector<std::int32_t> die = random_integers(n, 0, 9, 300 + seed);
  std::int32_t begin = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = i / kTokens;
    const auto position = static_cast<std::int32_t>(i % kTokens);
    // Row 1 has no valid token, row 2 none in its second half: whole ranks without loss.
    const bool hidden =
        c.masked && (row == 1 || (row == 2 && position >= kTokens / 2) || coin[i] == 0);
    batch.loss_masks.push_back(hidden ? 0.0f : 1.0f);
    if (position == 0) begin = 0;
    if (die[i] == 0) begin = position;
    batch.document_starts.push_back(begin);
  }
  return batch;
}

struct Curve {
  std::vector<double> losses;
  std::vector<double> norms;
};

Curve run(Context& context, const Case& c, const TrainConfig& config, int steps) {
  Engine engine(context, config, {.train = true, .evaluate = false});
  engine.parameters().initialise(7, config.llama.initializer_range);
  const Mesh& mesh = context.mesh;
  Curve curve;
  double denominator = 0;
  for (int step = 0; step < steps; ++step) {
    const LocalBatch batch =
        cut_batch(make_batch(c, step), engine.trainer().layout(), mesh.batch_shard(),
                  mesh.shape.num_batch_shards(), mesh.coordinates.sp,
                  {parse_loss_reduction(config.loss_reduction), c.documents});
    engine.zero_totals();
    engine.train(batch);
    denominator += batch.denominator;
    curve.losses.push_back(engine.read_totals().loss / batch.denominator);
    if ((step + 1) % c.accumulate == 0) {
      engine.update(denominator);
      denominator = 0;
      curve.norms.push_back(engine.read_gradient_norm());
    }
  }
  return curve;
}

void expect_near(double actual, double expected, double relative, const std::string& what) {
  EXPECT_LE(std::abs(actual - expected), relative * std::abs(expected))
      << what << ": " << actual << ", one rank has " << expected;
}

struct Tolerances {
  double first_loss, first_norm, loss, norm;
};
constexpr Tolerances kCpu{1e-6, 1e-5, 1e-5, 1e-4};
// Another device sums in another order: the run starts further apart.
constexpr Tolerances kGpu{1e-5, 1e-4, 1e-4, 1e-3};

void expect_equal_runs(const Case& c, DeviceType device, const Tolerances& tolerances) {
  const bool on_gpu = device == DeviceType::kCuda;
  const int steps = on_gpu ? kGpuSteps : kSteps;
  const int world_size = test_world().size();
  // The reference has neither remat nor the ring.
  Case plain = c;
  plain.remat_block = "";
  plain.attention_type = "standard";
  plain.layout = "contiguous";
  TestContext one(DType::kFloat32, kArenaBytes);
  const Curve expected = run(*one, plain, make_config(plain), steps);
  ASSERT_LT(expected.losses.back(), expected.losses.front()) << "nothing is learned";

  for (const std::string& mesh : on_gpu ? gpu_meshes_of(world_size) : meshes_of(world_size)) {
    TestContext context(test_world(), mesh, device, DType::kFloat32, kArenaBytes);
    if (c.kv_heads % context->mesh.shape.tp != 0) continue;
    SCOPED_TRACE("mesh " + mesh);
    const Curve actual = run(*context, c, make_config(c), steps);
    expect_near(actual.losses[0], expected.losses[0], tolerances.first_loss, "first loss");
    expect_near(actual.norms[0], expected.norms[0], tolerances.first_norm, "first gradient norm");
    for (std::size_t i = 1; i < actual.losses.size(); ++i) {
      expect_near(actual.losses[i], expected.losses[i], tolerances.loss,
                  "loss " + std::to_string(i));
    }
    for (std::size_t i = 1; i < actual.norms.size(); ++i) {
      expect_near(actual.norms[i], expected.norms[i], tolerances.norm, "norm " + std::to_string(i));
    }
  }
}

class MeshEquivalence : public ::testing::TestWithParam<Case> {};

TEST_P(MeshEquivalence, EqualsOneRank) {
  expect_equal_runs(GetParam(), DeviceType::kCpu, kCpu);
}

class GpuMeshEquivalence : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    RT_SKIP_WITHOUT_GPU();
    // Ranks that share a GPU talk through sockets: few of them are enough.
    if (test_world().size() > 4 * cuda_device_count()) GTEST_SKIP() << "too few GPUs";
  }
};

TEST_P(GpuMeshEquivalence, EqualsOneCpuRank) {
  expect_equal_runs(GetParam(), DeviceType::kCuda, kGpu);
}

std::string case_name(const ::testing::TestParamInfo<Case>& c) {
  return c.param.name;
}

INSTANTIATE_TEST_SUITE_P(
    Runs, MeshEquivalence,
    ::testing::Values(Case{.name = "zigzag"}, Case{.name = "striped", .layout = "striped"},
                      Case{.name = "contiguous", .layout = "contiguous"},
                      Case{.name = "gathered", .attention_type = "blockwise"},
                      Case{.name = "standard", .layout = "striped", .attention_type = "standard"},
                      Case{.name = "ring_standard", .attention_type = "ring_standard"},
                      Case{.name = "remat_nothing", .remat_block = "nothing_saveable"},
                      Case{.name = "remat_dots", .remat_block = "dots_saveable"},
                      Case{.name = "save_attention", .remat_block = "save_attention"},
                      Case{.name = "gqa_tied", .kv_heads = 2, .tied = true},
                      Case{.name = "masked", .masked = true},
                      Case{.name = "masked_sequence", .masked = true, .loss_reduction = "sequence"},
                      Case{.name = "documents", .kv_heads = 2, .documents = true},
                      Case{.name = "documents_striped", .layout = "striped", .documents = true},
                      Case{.name = "accumulate", .masked = true, .accumulate = 4},
                      Case{.name = "palm", .kv_heads = 2, .tied = true, .optimizer = "palm"}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Runs, GpuMeshEquivalence,
    ::testing::Values(Case{.name = "zigzag"},
                      Case{.name = "gathered", .layout = "striped", .attention_type = "blockwise"},
                      Case{.name = "remat_nothing", .remat_block = "nothing_saveable"},
                      Case{.name = "gqa_tied_documents",
                           .kv_heads = 2,
                           .tied = true,
                           .masked = true,
                           .documents = true},
                      Case{.name = "accumulate_palm", .accumulate = 2, .optimizer = "palm"}),
    case_name);

}  // namespace
}  // namespace ringtrain
