#include "ringtrain/checkpoint/hf_checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ringtrain/checkpoint/hf_config.h"
#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/config/model_file.h"
#include "ringtrain/core/error.h"
#include "support/device_test.h"
#include "support/golden.h"
#include "support/sharded_values.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

const std::vector<MeshShape> kMeshes{{1, 1, 1, 1}, {2, 1, 1, 1}, {1, 2, 1, 1}, {1, 1, 2, 1},
                                     {1, 1, 4, 1}, {1, 2, 2, 2}, {2, 2, 2, 1}};

class HfCheckpointTest : public DeviceTest {};
RT_INSTANTIATE_DEVICE_TEST(HfCheckpointTest);

void expect_equal_tensors(const fs::path& actual, const fs::path& expected) {
  const SafetensorsReader ours(actual);
  const SafetensorsReader theirs(expected);
  EXPECT_EQ(ours.entries().size(), theirs.entries().size());
  for (const auto& entry : theirs.entries()) {
    ASSERT_NE(ours.find(entry.name), nullptr) << entry.name;
    EXPECT_EQ(ours.entry(entry.name).dtype, entry.dtype) << entry.name;
    EXPECT_EQ(ours.entry(entry.name).shape, entry.shape) << entry.name;
    EXPECT_EQ(ours.floats(entry.name), theirs.floats(entry.name)) << entry.name;
  }
}

// The whole tensors of a file as values of elements.
ValueOf values_in(const SafetensorsReader& file) {
  std::map<std::string, std::vector<float>> tensors;
  for (const auto& entry : file.entries()) tensors[entry.name] = file.floats(entry.name);
  return [tensors](const Segment& segment, std::int64_t whole_index) {
    return tensors.at(segment.name)[static_cast<std::size_t>(whole_index)];
  };
}

TEST_P(HfCheckpointTest, GoldenModelsRoundTripOnEveryMesh) {
  for (const char* name : {"llama1", "gqa_tied_llama3", "head_dim100"}) {
    const fs::path source = golden_directory() / "hf" / name;
    const ModelConfig config = read_model_config(source / "config.json");
    const ValueOf expected = values_in(SafetensorsReader(source / "model.safetensors"));
    for (const MeshShape& mesh : kMeshes) {
      SCOPED_TRACE(std::string(name) + " " + mesh.to_string());
      const TemporaryDirectory folder;
      run_on_mesh(GetParam(), mesh, config, [&](MeshRank& at) {
        const ShardFamily masters = make_family(at.rank, at.table, "master", DType::kFloat32);
        load_hf_parameters(source, at.table, *at.rank, masters);
        EXPECT_TRUE(holds(at.rank, at.table, masters, expected));
        write_hf_checkpoint(at.world, folder.path(), config, at.table, *at.rank, masters,
                            {.dtype = DType::kFloat32});
      });
      expect_equal_tensors(folder / "model.safetensors", source / "model.safetensors");
      EXPECT_TRUE(fs::exists(folder / "config.json"));
      EXPECT_TRUE(fs::exists(folder / "generation_config.json"));
    }
  }
}

TEST_P(HfCheckpointTest, PaddingOfTheVocabularyStaysOutOfFiles) {
  const ModelConfig config = tiny_llama();
  const TemporaryDirectory folder;
  for (const MeshShape& mesh : kMeshes) {
    SCOPED_TRACE(mesh.to_string());
    run_on_mesh(GetParam(), mesh, config, [&](MeshRank& at) {
      const ShardFamily masters = make_family(at.rank, at.table, "master", DType::kFloat32);
      fill(at.rank, at.table, masters, scattered_values(3));
      write_hf_checkpoint(at.world, folder.path(), config, at.table, *at.rank, masters,
                          {.dtype = DType::kFloat32});
    });
    const SafetensorsReader file(folder / "model.safetensors");
    EXPECT_EQ(file.entry("lm_head.weight").shape, Shape({13, 8}));
    run_on_mesh(GetParam(), mesh, config, [&](MeshRank& at) {
      const ShardFamily masters = make_family(at.rank, at.table, "master", DType::kFloat32);
      load_hf_parameters(folder.path(), at.table, *at.rank, masters);
      EXPECT_TRUE(holds(at.rank, at.table, masters, scattered_values(3)));
    });
  }
}

TEST_P(HfCheckpointTest, SeveralFilesHaveAnIndex) {
  const ModelConfig config = tiny_llama();
  const TemporaryDirectory folder;
  replace_text(folder / "sentences.model", "tokenizer bytes");
  run_on_mesh(GetParam(), {1, 2, 1, 1}, config, [&](MeshRank& at) {
    const ShardFamily masters = make_family(at.rank, at.table, "master", DType::kFloat32);
    fill(at.rank, at.table, masters, scattered_values(5));
    write_hf_checkpoint(at.world, folder.path(), config, at.table, *at.rank, masters,
                        {.dtype = DType::kBFloat16,
                         .tokenizer_file = folder / "sentences.model",
                         .max_file_bytes = 1000});
  });
  EXPECT_EQ(read_text(folder / "tokenizer.model"), "tokenizer bytes");
  EXPECT_FALSE(fs::exists(folder / "model.safetensors"));
  const auto index = nlohmann::json::parse(read_text(folder / "model.safetensors.index.json"));
  std::uint64_t total = 0;
  for (const auto& [tensor, name] : index["weight_map"].items()) {
    const SafetensorsReader file(folder / name.get<std::string>());
    EXPECT_EQ(file.entry(tensor).dtype, DType::kBFloat16);
    EXPECT_EQ(file.metadata().at("format"), "pt");
    EXPECT_LE(fs::file_size(file.path()), 1000u + 1000u) << "data and header";
    total += static_cast<std::uint64_t>(file.entry(tensor).shape.num_elements()) * 2;
  }
  EXPECT_EQ(index["metadata"]["total_size"], total);
  run_on_mesh(GetParam(), {1, 1, 2, 2}, config, [&](MeshRank& at) {
    const ShardFamily masters = make_family(at.rank, at.table, "master", DType::kFloat32);
    load_hf_parameters(folder.path(), at.table, *at.rank, masters);
    EXPECT_TRUE(holds(at.rank, at.table, masters, scattered_values(5)));  // exact in bf16
  });
}

/// A directory with the tensors of `tensors`, each full of ones.
void write_tensors(const fs::path& path,
                   const std::vector<SafetensorsWriter::Declaration>& tensors) {
  SafetensorsWriter writer(path, tensors);
  for (const auto& tensor : tensors) {
    const std::vector<float> ones(static_cast<std::size_t>(tensor.shape.num_elements()), 1.0f);
    writer.append(tensor.name, DType::kFloat32, ones.data(), tensor.shape.num_elements());
  }
  writer.finish();
}

std::vector<SafetensorsWriter::Declaration> declarations(const ModelConfig& config, DType dtype) {
  std::vector<SafetensorsWriter::Declaration> tensors;
  run_on_mesh(DeviceType::kCpu, {}, config, [&](MeshRank& at) {
    for (const ParameterUnit& unit : at.table.units()) {
      for (const Segment& segment : unit.segments) {
        tensors.push_back({segment.name, dtype, segment.shape});
      }
    }
  });
  return tensors;
}

// The message of loading `folder` as a tiny LLaMA; empty if it loads.
std::string load_error(const fs::path& folder, bool tied = false) {
  std::string message;
  run_on_mesh(DeviceType::kCpu, {}, tiny_llama(tied), [&](MeshRank& at) {
    const ShardFamily masters = make_family(at.rank, at.table, "master", DType::kFloat32);
    try {
      load_hf_parameters(folder, at.table, *at.rank, masters);
    } catch (const IoError& error) {
      message = error.what();
    }
  });
  return message;
}

TEST(HfLoadTest, ReadsEveryFloatType) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    const TemporaryDirectory folder;
    write_tensors(folder / "model.safetensors", declarations(tiny_llama(), dtype));
    EXPECT_EQ(load_error(folder.path()), "") << name_of(dtype);
  }
}

TEST(HfLoadTest, MissingExtraAndMisshapenTensorsAreNamed) {
  const TemporaryDirectory folder;
  auto tensors = declarations(tiny_llama(), DType::kFloat32);
  ASSERT_EQ(tensors[0].name, "model.embed_tokens.weight");
  tensors[0].shape = {14, 8};
  tensors[1].name = "model.layers.0.unheard_of.weight";  // was input_layernorm
  write_tensors(folder / "model.safetensors", tensors);
  const std::string message = load_error(folder.path());
  for (const char* expected : {"missing: 'model.layers.0.input_layernorm.weight'",
                               "not in the model: 'model.layers.0.unheard_of.weight'",
                               "model.embed_tokens.weight [14, 8] where the model has [13, 8]"}) {
    EXPECT_NE(message.find(expected), std::string::npos) << message;
  }
  EXPECT_NE(message.find(folder.path().string()), std::string::npos) << message;
}

TEST(HfLoadTest, TiedModelsMayCarryTheirHeadAndOldOnesFrequencies) {
  const TemporaryDirectory folder;
  auto tensors = declarations(tiny_llama(/*tied=*/false), DType::kFloat32);
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kFloat32, {1}});
  write_tensors(folder / "model.safetensors", tensors);
  EXPECT_EQ(load_error(folder.path(), /*tied=*/true), "");
}

TEST(HfLoadTest, UntiedModelsNeedTheirHead) {
  const TemporaryDirectory folder;
  write_tensors(folder / "model.safetensors", declarations(tiny_llama(true), DType::kFloat32));
  EXPECT_NE(load_error(folder.path()).find("missing: 'lm_head.weight'"), std::string::npos);
}

TEST(HfLoadTest, DirectoriesWithoutTensorsAreRefused) {
  const TemporaryDirectory folder;
  EXPECT_NE(load_error(folder.path()).find("model.safetensors"), std::string::npos);
  EXPECT_NE(load_error(folder / "nowhere").find("nowhere"), std::string::npos);
}

TEST(HfLoadTest, TruncatedFilesAreRefused) {
  const TemporaryDirectory folder;
  write_tensors(folder / "model.safetensors", declarations(tiny_llama(), DType::kFloat32));
  fs::resize_file(folder / "model.safetensors", fs::file_size(folder / "model.safetensors") - 1);
  const std::string message = load_error(folder.path());
  EXPECT_NE(message.find("truncated"), std::string::npos) << message;
}

TEST(HfLoadTest, IndexAndFilesMustAgree) {
  const TemporaryDirectory folder;
  auto tensors = declarations(tiny_llama(), DType::kFloat32);
  nlohmann::json index;
  for (const auto& tensor : tensors) index["weight_map"][tensor.name] = "a.safetensors";
  const fs::path index_path = folder / "model.safetensors.index.json";
  replace_text(index_path, index.dump());
  EXPECT_NE(load_error(folder.path()).find("a.safetensors"), std::string::npos) << "no such file";

  write_tensors(folder / "a.safetensors", tensors);
  EXPECT_EQ(load_error(folder.path()), "");

  index["weight_map"]["model.ghost.weight"] = "a.safetensors";
  replace_text(index_path, index.dump());
  EXPECT_NE(load_error(folder.path()).find("model.ghost.weight"), std::string::npos);

  replace_text(index_path, "{}");
  EXPECT_NE(load_error(folder.path()).find("weight_map"), std::string::npos);
}

TEST(HfSaveTest, AllRanksHearOfAnUnwritableDirectory) {
  const TemporaryDirectory folder;
  int num_failed = 0;
  std::mutex mutex;
  run_on_mesh(DeviceType::kCpu, {1, 2, 2, 1}, tiny_llama(), [&](MeshRank& at) {
    const ShardFamily masters = make_family(at.rank, at.table, "master", DType::kFloat32);
    fill(at.rank, at.table, masters, scattered_values(1));
    try {
      write_hf_checkpoint(at.world, folder / "nowhere", tiny_llama(), at.table, *at.rank, masters,
                          {});
    } catch (const IoError& error) {
      const std::lock_guard lock(mutex);
      EXPECT_NE(std::string(error.what()).find("nowhere"), std::string::npos) << error.what();
      ++num_failed;
    }
  });
  EXPECT_EQ(num_failed, 4);
}

}  // namespace
}  // namespace ringtrain
