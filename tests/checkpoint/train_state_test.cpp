#include "ringtrain/checkpoint/train_state.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "ringtrain/checkpoint/file.h"
#include "ringtrain/core/error.h"
#include "support/device_test.h"
#include "support/sharded_values.h"
#include "support/temporary_directory.h"
#include "support/thread_world.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

const std::vector<MeshShape> kMeshes{{1, 1, 1, 1}, {2, 1, 1, 1}, {1, 3, 1, 1}, {1, 1, 2, 1},
                                     {1, 1, 4, 1}, {1, 2, 1, 2}, {1, 2, 2, 2}, {2, 2, 2, 1}};

/// Masters and moments as an optimizer with bf16 momentum has them.
std::vector<ShardFamily> make_families(MeshRank& at) {
  return {make_family(at.rank, at.table, "master", DType::kFloat32),
          make_family(at.rank, at.table, "m", DType::kBFloat16),
          make_family(at.rank, at.table, "v", DType::kFloat32)};
}

void save(DeviceType device, const MeshShape& mesh, const fs::path& folder) {
  run_on_mesh(device, mesh, tiny_llama(), [&](MeshRank& at) {
    const std::vector<ShardFamily> families = make_families(at);
    for (std::size_t i = 0; i < families.size(); ++i) {
      fill(at.rank, at.table, families[i], scattered_values(static_cast<int>(i)));
    }
    write_train_state(at.world, folder, at.table, *at.rank, families, R"({"step": 7})");
  });
}

class TrainStateTest : public DeviceTest {};
RT_INSTANTIATE_DEVICE_TEST(TrainStateTest);

TEST_P(TrainStateTest, AnyMeshLoadsWhatAnotherHasSaved) {
  for (const MeshShape& from : kMeshes) {
    const TemporaryDirectory folder;
    save(GetParam(), from, folder.path());
    EXPECT_EQ(read_train_state_metadata(folder.path()), R"({"step": 7})");
    for (const MeshShape& to : kMeshes) {
      SCOPED_TRACE(from.to_string() + " to " + to.to_string());
      run_on_mesh(GetParam(), to, tiny_llama(), [&](MeshRank& at) {
        const std::vector<ShardFamily> families = make_families(at);
        verify_train_state(at.world, folder.path());
        load_train_state(folder.path(), at.table, *at.rank, families);
        for (std::size_t i = 0; i < families.size(); ++i) {
          EXPECT_TRUE(holds(at.rank, at.table, families[i], scattered_values(static_cast<int>(i))));
        }
      });
    }
  }
}

// The message of the IoError of `body` on one rank; empty if there was none.
std::string error_of(const ModelConfig& model, const std::function<void(MeshRank&)>& body) {
  std::string message;
  run_on_mesh(DeviceType::kCpu, {}, model, [&](MeshRank& at) {
    try {
      body(at);
    } catch (const IoError& error) {
      message = error.what();
    }
  });
  return message;
}

TEST(TrainStateLoadTest, ParametersLoadAlone) {
  const TemporaryDirectory folder;
  save(DeviceType::kCpu, {1, 2, 1, 1}, folder.path());
  EXPECT_EQ(error_of(tiny_llama(),
                     [&](MeshRank& at) {
                       const auto masters =
                           make_family(at.rank, at.table, "master", DType::kFloat32);
                       load_train_state(folder.path(), at.table, *at.rank, {masters});
                       EXPECT_TRUE(holds(at.rank, at.table, masters, scattered_values(0)));
                     }),
            "");
}

TEST(TrainStateLoadTest, MissingFamiliesAreNamed) {
  const TemporaryDirectory folder;
  save(DeviceType::kCpu, {}, folder.path());
  const std::string message = error_of(tiny_llama(), [&](MeshRank& at) {
    load_train_state(folder.path(), at.table, *at.rank,
                     {make_family(at.rank, at.table, "loss_scale", DType::kFloat32)});
  });
  EXPECT_NE(message.find("'loss_scale'"), std::string::npos) << message;
}

TEST(TrainStateLoadTest, OtherModelsAreRefused) {
  const TemporaryDirectory folder;
  save(DeviceType::kCpu, {1, 2, 1, 1}, folder.path());
  const auto load = [&](const ModelConfig& model) {
    return error_of(model, [&](MeshRank& at) {
      load_train_state(folder.path(), at.table, *at.rank,
                       {make_family(at.rank, at.table, "master", DType::kFloat32)});
    });
  };
  ModelConfig wider = tiny_llama();
  wider.vocab_size = 14;
  EXPECT_NE(load(wider).find("[13, 8] where the model has [14, 8]"), std::string::npos);
  ModelConfig deeper = tiny_llama();
  deeper.num_hidden_layers = 3;
  EXPECT_NE(load(deeper).find("model.layers.2."), std::string::npos);
  EXPECT_NE(load(tiny_llama(/*tied=*/true)).find("lm_head.weight"), std::string::npos);
}

struct Damage {
  std::string name;
  std::function<void(const fs::path&)> inflict;
  std::string expected;
};

fs::path shard_file(const fs::path& folder) {
  return folder / "tp-0-shard-1.safetensors";
}

void flip_last_byte(const fs::path& path) {
  std::string bytes = read_text(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  replace_text(path, bytes);
}

class DamagedTrainStateTest : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedTrainStateTest, IsFoundOnAllRanks) {
  const TemporaryDirectory folder;
  save(DeviceType::kCpu, {1, 2, 2, 1}, folder.path());
  GetParam().inflict(folder.path());
  run_ranks(3, [&](World& world) {
    try {
      verify_train_state(world, folder.path());
      ADD_FAILURE() << "accepted on rank " << world.rank();
    } catch (const IoError& error) {
      EXPECT_NE(std::string(error.what()).find(GetParam().expected), std::string::npos)
          << error.what();
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    Damages, DamagedTrainStateTest,
    ::testing::Values(
        Damage{"flipped_bit", [](const fs::path& f) { flip_last_byte(shard_file(f)); },
               "tp-0-shard-1.safetensors is damaged: its CRC-32"},
        Damage{"truncated",
               [](const fs::path& f) {
                 fs::resize_file(shard_file(f), fs::file_size(shard_file(f)) - 1);
               },
               "tp-0-shard-1.safetensors is damaged: it has"},
        Damage{"missing_file", [](const fs::path& f) { fs::remove(shard_file(f)); },
               "tp-0-shard-1.safetensors"},
        Damage{"missing_manifest", [](const fs::path& f) { fs::remove(f / "manifest.json"); },
               "manifest.json"},
        Damage{"broken_manifest",
               [](const fs::path& f) {
                 fs::resize_file(f / "manifest.json", fs::file_size(f / "manifest.json") / 2);
               },
               "manifest.json is damaged"},
        Damage{"foreign_manifest",
               [](const fs::path& f) {
                 replace_text(f / "manifest.json", R"({"format": "other", "version": 1})");
               },
               "manifest.json cannot be used"},
        Damage{"changed_metadata", [](const fs::path& f) { flip_last_byte(f / "metadata.json"); },
               "metadata.json is damaged"}),
    [](const auto& damage) { return damage.param.name; });

}  // namespace
}  // namespace ringtrain
