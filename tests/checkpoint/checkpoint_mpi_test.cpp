// Checkpoints over the real control plane: what the threads of the other tests stand in for.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "ringtrain/checkpoint/checkpoint_folder.h"
#include "ringtrain/checkpoint/hf_checkpoint.h"
#include "ringtrain/checkpoint/train_state.h"
#include "ringtrain/core/error.h"
#include "ringtrain/model/llama_parameters.h"
#include "support/sharded_values.h"
#include "support/temporary_directory.h"
#include "support/test_group.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

std::vector<MeshShape> meshes(int size) {
  std::vector<MeshShape> shapes{{size, 1, 1, 1}, {1, size, 1, 1}, {1, 1, 1, size}};
  if (size % 2 == 0) shapes.push_back({1, size / 2, 2, 1});
  if (size % 8 == 0) shapes.push_back({2, 1, 2, size / 4});
  return shapes;
}

class CheckpointMpiTest : public ::testing::TestWithParam<DeviceType> {
 protected:
  void SetUp() override { RT_SKIP_WITHOUT_DEVICE(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Devices, CheckpointMpiTest,
                         ::testing::Values(DeviceType::kCpu, DeviceType::kCuda),
                         [](const auto& device) {
                           return std::string(device.param == DeviceType::kCuda ? "cuda" : "cpu");
                         });

/// One rank of a mesh with masters and a moment.
struct Rank {
  Rank(TestGroup& group, const MeshShape& shape)
      : context(group.device(), make_mesh(group.world(), group.device(), shape, "tp,sp,fsdp,dp")),
        table(make_llama_table(tiny_llama(), context->mesh.coordinates.tp, shape.tp,
                               shape.num_param_shards())),
        families{make_family(context, table, "master", DType::kFloat32),
                 make_family(context, table, "m", DType::kBFloat16)} {}

  RankContext context;
  ParameterTable table;
  std::vector<ShardFamily> families;
};

TEST_P(CheckpointMpiTest, EveryMeshLoadsWhatEveryOtherSaved) {
  World& world = test_world();
  TestGroup& group = TestGroup::shared(GetParam());
  for (const MeshShape& from : meshes(world.size())) {
    const TemporaryDirectory own;  // rank 0's is used
    const fs::path folder = world.broadcast((own / "checkpoints").string());
    {
      Rank rank(group, from);
      fill(rank.context, rank.table, rank.families[0], scattered_values(0));
      fill(rank.context, rank.table, rank.families[1], scattered_values(1));
      save_checkpoint(world, folder, 5, false, [&](const fs::path& directory) {
        write_hf_checkpoint(world, directory, tiny_llama(), rank.table, *rank.context,
                            rank.families[0], {.dtype = DType::kFloat32});
        if (world.rank() == 0) fs::create_directory(directory / kTrainStateFolder);
        world.barrier();
        write_train_state(world, directory / kTrainStateFolder, rank.table, *rank.context,
                          rank.families, "{}");
      });
    }
    for (const MeshShape& to : meshes(world.size())) {
      SCOPED_TRACE(from.to_string() + " to " + to.to_string());
      Rank rank(group, to);
      const auto state = find_train_state(
          world, folder, [](const std::string& warning) { ADD_FAILURE() << warning; });
      ASSERT_TRUE(state.has_value());
      load_train_state(*state, rank.table, *rank.context, rank.families);
      EXPECT_TRUE(holds(rank.context, rank.table, rank.families[0], scattered_values(0)));
      EXPECT_TRUE(holds(rank.context, rank.table, rank.families[1], scattered_values(1)));
      const ShardFamily again = make_family(rank.context, rank.table, "master", DType::kFloat32);
      load_hf_parameters(state->parent_path(), rank.table, *rank.context, again);
      EXPECT_TRUE(holds(rank.context, rank.table, again, scattered_values(0)));
    }
    world.barrier();  // rank 0 removes the folder
  }
}

TEST_P(CheckpointMpiTest, AllRanksHearOfAFailure) {
  World& world = test_world();
  TestGroup& group = TestGroup::shared(GetParam());
  Rank rank(group, {1, world.size(), 1, 1});
  try {
    save_checkpoint(world, "/proc/no/such/folder", 5, false, [](const fs::path&) {});
    ADD_FAILURE() << "saved in /proc";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("/proc/no/such/folder"), std::string::npos);
  }
}

}  // namespace
}  // namespace ringtrain
