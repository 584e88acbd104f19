// The sharded optimizer on every mesh of the world against one rank that holds everything.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ringtrain/checkpoint/shard_copy.h"
#include "ringtrain/model/llama_parameters.h"
#include "ringtrain/optim/optimizer.h"
#include "support/sharded_values.h"
#include "support/test_group.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

constexpr int kUpdates = 4;
constexpr double kDenominator = 50;
// Norms are summed in double, in another order on each mesh: the factor of an update may differ in
// its last bit of float32.
constexpr float kTolerance = 1e-6f;

struct OptimizerCase {
  std::string name;
  OptimizerConfig config;
  DeviceType device;
};

OptimizerConfig adamw() {
  OptimizerConfig config;
  config.adamw_optimizer.lr_warmup_steps = 0;
  config.adamw_optimizer.weight_decay = 0.1;
  return config;
}

OptimizerConfig parameter_scale() {
  OptimizerConfig config = adamw();
  config.adamw_optimizer.multiply_by_parameter_scale = true;
  return config;
}

OptimizerConfig palm() {
  OptimizerConfig config;
  config.type = "palm";
  return config;
}

/// What four updates leave behind.
struct Outcome {
  ValueOf masters;  // only from one rank
  float gradient_norm;
  float parameter_norm;
};

float first_of(RankContext& rank, const Tensor& pair) {
  return ShardCopy(rank->device, rank.stream()).download(pair, 0, 1)[0];
}

Outcome train(RankContext& rank, const ParameterTable& table, const OptimizerConfig& config,
              const ShardFamily& masters) {
  const ShardFamily gradients = make_family(rank, table, "gradient", DType::kFloat32);
  fill(rank, table, masters, scattered_values(0));
  Optimizer optimizer(config, table, *rank);
  for (int update = 1; update <= kUpdates; ++update) {
    fill(rank, table, gradients, scattered_values(update));
    optimizer.update(masters, gradients, kDenominator, rank.stream());
  }
  EXPECT_EQ(optimizer.num_updates(), kUpdates);
  return {.masters = {},
          .gradient_norm = first_of(rank, optimizer.gradient_norm()),
          .parameter_norm = first_of(rank, optimizer.parameter_norm(masters, rank.stream()))};
}

Outcome train_on_one_rank(Device& device, const OptimizerConfig& config) {
  RankContext rank(device, one_rank_mesh(device));
  const ParameterTable table = make_llama_table(tiny_llama(), 0, 1, 1);
  const ShardFamily masters = make_family(rank, table, "master", DType::kFloat32);
  Outcome outcome = train(rank, table, config, masters);
  outcome.masters = values_of(rank, table, masters);
  return outcome;
}

// Every way to cut the world in four; tp at most the four heads.
std::vector<MeshShape> all_meshes(int size) {
  std::vector<MeshShape> meshes;
  for (int dp = 1; dp <= size; ++dp) {
    for (int fsdp = 1; dp * fsdp <= size; ++fsdp) {
      for (int tp = 1; dp * fsdp * tp <= size && tp <= 4; ++tp) {
        if (size % (dp * fsdp * tp) == 0 && tp != 3) {
          meshes.push_back({dp, fsdp, tp, size / (dp * fsdp * tp)});
        }
      }
    }
  }
  return meshes;
}

class OptimizerMeshTest : public ::testing::TestWithParam<OptimizerCase> {
 protected:
  void SetUp() override { RT_SKIP_WITHOUT_DEVICE(GetParam().device); }
};

TEST_P(OptimizerMeshTest, EveryMeshUpdatesAsOneRankDoes) {
  TestGroup& group = TestGroup::shared(GetParam().device);
  const Outcome expected = train_on_one_rank(group.device(), GetParam().config);
  for (const MeshShape& shape : all_meshes(group.world().size())) {
    SCOPED_TRACE(shape.to_string());
    RankContext rank(group.device(),
                     make_mesh(group.world(), group.device(), shape, "tp,sp,fsdp,dp"));
    const ParameterTable table = make_llama_table(tiny_llama(), rank->mesh.coordinates.tp, shape.tp,
                                                  shape.num_param_shards());
    const ShardFamily masters = make_family(rank, table, "master", DType::kFloat32);
    const Outcome actual = train(rank, table, GetParam().config, masters);
    EXPECT_TRUE(holds(rank, table, masters, expected.masters, kTolerance));
    EXPECT_NEAR(actual.gradient_norm, expected.gradient_norm, kTolerance * expected.gradient_norm);
    EXPECT_NEAR(actual.parameter_norm, expected.parameter_norm,
                kTolerance * expected.parameter_norm);
    rank.stream().synchronise();
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, OptimizerMeshTest,
                         ::testing::Values(OptimizerCase{"adamw_cpu", adamw(), DeviceType::kCpu},
                                           OptimizerCase{"parameter_scale_cpu", parameter_scale(),
                                                         DeviceType::kCpu},
                                           OptimizerCase{"palm_cpu", palm(), DeviceType::kCpu},
                                           OptimizerCase{"adamw_cuda", adamw(), DeviceType::kCuda},
                                           OptimizerCase{"palm_cuda", palm(), DeviceType::kCuda}),
                         [](const auto& rule) { return rule.param.name; });

}  // namespace
}  // namespace ringtrain
