#include "ringtrain/config/presets.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "ringtrain/config/checkpoint_agreement.h"
#include "ringtrain/config/model_file.h"
#include "ringtrain/config/resolve.h"
#include "ringtrain/config/validate.h"
#include "support/error_text.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

ModelConfig model_of(const std::string& preset) {
  return resolve_config(Command::kTrain, {{{"load_llama_config", preset}}, {}}).config.llama;
}

struct Shape {
  const char* name;
  std::int64_t hidden, intermediate, layers, heads, kv_heads, head_size, vocab, max_length;
  double eps, theta;
  bool tied;
};

void expect_shape(const Shape& expected) {
  SCOPED_TRACE(expected.name);
  const ModelConfig model = model_of(expected.name);
  EXPECT_EQ(model.hidden_size, expected.hidden);
  EXPECT_EQ(model.intermediate_size, expected.intermediate);
  EXPECT_EQ(model.num_hidden_layers, expected.layers);
  EXPECT_EQ(model.num_attention_heads, expected.heads);
  EXPECT_EQ(model.kv_heads(), expected.kv_heads);
  EXPECT_EQ(model.head_size(), expected.head_size);
  EXPECT_EQ(model.vocab_size, expected.vocab);
  EXPECT_EQ(model.max_sequence_length, expected.max_length);
  EXPECT_EQ(model.rms_norm_eps, expected.eps);
  EXPECT_EQ(model.rope_theta, expected.theta);
  EXPECT_EQ(model.tie_word_embeddings, expected.tied);
  EXPECT_EQ(model.initializer_range, 0.02);
  EXPECT_NO_THROW(validate_model(model));
}

TEST(Presets, OfTheOriginal) {
  for (const Shape& shape :
       {Shape{"debug", 128, 256, 2, 4, 4, 32, 32000, 2048, 1e-6, 1e4, false},
        Shape{"200m", 1024, 2048, 14, 8, 8, 128, 32000, 2048, 1e-6, 1e4, false},
        Shape{"1b", 2048, 5504, 22, 16, 16, 128, 32000, 2048, 1e-6, 1e4, false},
        Shape{"3b", 3200, 8640, 26, 32, 32, 100, 32000, 2048, 1e-6, 1e4, false},
        Shape{"7b", 4096, 11008, 32, 32, 32, 128, 32000, 2048, 1e-6, 1e4, false},
        Shape{"13b", 5120, 13824, 40, 40, 40, 128, 32000, 2048, 1e-6, 1e4, false},
        Shape{"30b", 6656, 17920, 60, 52, 52, 128, 32000, 2048, 1e-6, 1e4, false},
        Shape{"65b", 8192, 22016, 80, 64, 64, 128, 32000, 2048, 1e-5, 1e4, false}}) {
    expect_shape(shape);
  }
}

TEST(Presets, OfLaterModels) {
  for (const Shape& shape :
       {Shape{"llama2-7b", 4096, 11008, 32, 32, 32, 128, 32000, 4096, 1e-5, 1e4, false},
        Shape{"llama2-13b", 5120, 13824, 40, 40, 40, 128, 32000, 4096, 1e-5, 1e4, false},
        Shape{"llama2-70b", 8192, 28672, 80, 64, 8, 128, 32000, 4096, 1e-5, 1e4, false},
        Shape{"llama3-8b", 4096, 14336, 32, 32, 8, 128, 128256, 8192, 1e-5, 5e5, false},
        Shape{"llama3-70b", 8192, 28672, 80, 64, 8, 128, 128256, 8192, 1e-5, 5e5, false},
        Shape{"llama3.1-8b", 4096, 14336, 32, 32, 8, 128, 128256, 131072, 1e-5, 5e5, false},
        Shape{"llama3.1-70b", 8192, 28672, 80, 64, 8, 128, 128256, 131072, 1e-5, 5e5, false},
        Shape{"llama3.2-1b", 2048, 8192, 16, 32, 8, 64, 128256, 131072, 1e-5, 5e5, true},
        Shape{"llama3.2-3b", 3072, 8192, 28, 24, 8, 128, 128256, 131072, 1e-5, 5e5, true}}) {
    expect_shape(shape);
  }
  EXPECT_EQ(model_of("llama3-8b").rope_scaling, RopeScaling{});
  EXPECT_EQ(model_of("llama3.1-8b").rope_scaling, (RopeScaling{"llama3", 8, 1, 4, 8192}));
  EXPECT_EQ(model_of("llama3.2-3b").rope_scaling, (RopeScaling{"llama3", 32, 1, 4, 8192}));
  EXPECT_EQ(model_of("llama3-8b").bos_token_id, 128000);
}

TEST(Presets, AreTheFilesOfTheRepository) {
  EXPECT_EQ(presets().size(), 17u);
  for (const Preset& preset : presets()) {
    std::ifstream file(std::string(RT_SOURCE_DIR "/configs/models/") + std::string(preset.name) +
                       ".json");
    std::ostringstream text;
    text << file.rdbuf();
    EXPECT_EQ(text.str(), preset.json) << preset.name;
  }
}

TEST(Presets, WithoutOneTheShapeIs7b) {
  const ModelConfig bare = resolve_config(Command::kTrain, {}).config.llama;
  EXPECT_EQ(bare.hidden_size, model_of("7b").hidden_size);
  EXPECT_EQ(bare.num_hidden_layers, model_of("7b").num_hidden_layers);
  EXPECT_EQ(bare.rms_norm_eps, model_of("7b").rms_norm_eps);
}

TEST(Presets, UnknownOnesAreListed) {
  const std::string text = error_text([] { model_of("7B"); });
  EXPECT_NE(text.find("load_llama_config '7B' is neither a preset (13b, 1b, 200m, "),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("; did you mean '"), std::string::npos) << text;
}

class ModelFileTest : public ::testing::Test {
 protected:
  std::string write(const std::string& text) {
    const std::string path = directory_ / "config.json";
    std::ofstream(path) << text;
    return path;
  }
  TemporaryDirectory directory_;
};

TEST_F(ModelFileTest, ReadsHuggingFaceFilesOldAndNew) {
  const char* shape = R"("model_type": "llama", "vocab_size": 32, "intermediate_size": 80,
      "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
      "num_key_value_heads": 2, "head_dim": null, "hidden_act": "silu", "attention_bias": false,
      "max_position_embeddings": 256, "eos_token_id": [2, 7], "architectures": ["LlamaForCausalLM"],
      "torch_dtype": "bfloat16", "attention_dropout": 0.0)";
  const std::string scaling = R"({"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 2.0,
      "original_max_position_embeddings": 64, "rope_type": "llama3")";
  const ModelConfig old = read_model_config(write(
      std::string("{") + shape + R"(, "rope_theta": 5e5, "rope_scaling": )" + scaling + "}}"));
  EXPECT_EQ(old.hidden_size, 64);
  EXPECT_EQ(old.kv_heads(), 2);
  EXPECT_EQ(old.head_size(), 16);
  EXPECT_EQ(old.max_sequence_length, 256);
  EXPECT_EQ(old.eos_token_id, 2);
  EXPECT_EQ(old.rope_theta, 5e5);
  EXPECT_EQ(old.rope_scaling, (RopeScaling{"llama3", 4, 1, 2, 64}));
  const ModelConfig recent =
      read_model_config(write(std::string("{") + shape + R"(, "rope_parameters": )" + scaling +
                              R"(, "rope_theta": 5e5}})"));
  EXPECT_EQ(recent.rope_theta, 5e5);
  EXPECT_EQ(recent.rope_scaling, old.rope_scaling);
}

TEST_F(ModelFileTest, RefusesWhatChangesTheMathematics) {
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {R"({"model_type": "llama", "hidden_size": 64})", "the file has no vocab_size"},
           {R"({"model_type": "mistral"})", "model_type \"mistral\" is not supported; only "},
           {R"({"model_type": "llama", "attention_bias": true})", "attention_bias true is not"},
           {R"({"model_type": "llama", "hidden_act": "gelu"})", "hidden_act \"gelu\" is not"},
           {R"({"rope_scaling": {"type": "yarn", "factor": 2}})",
            "rope_scaling.rope_type 'yarn' is not one of"},
           {R"({"hiden_size": 3})", "unknown model key 'hiden_size'; did you mean 'hidden_size'?"},
           {R"({"hidden_size": "3"})", "hidden_size takes a whole number, got \"3\""},
           {R"([1])", "the file holds no JSON object"},
           {"{\n \"hidden_size\": }", "parse error at line 2, column 17"},
       }) {
    const std::string path = write(text);
    const std::string error = error_text([&] { read_model_config(path); });
    EXPECT_NE(error.find(message), std::string::npos) << error;
    EXPECT_NE(error.find("while reading " + path), std::string::npos) << error;
  }
}

const char* const kSmallModel = R"("model_type": "llama", "vocab_size": 32, "hidden_size": 64,
    "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4, "rope_theta": 5e5)";

TEST_F(ModelFileTest, CountsAsAPreset) {
  const std::string path =
      write(std::string("{") + kSmallModel + R"(, "mlp_rank": 3, "use_cache": true})");
  const auto [config, report] =
      resolve_config(Command::kTrain, {{{"load_llama_config", "json::" + path}}, {}});
  EXPECT_EQ(config.llama.hidden_size, 64);
  EXPECT_EQ(report.sources.at("llama.hidden_size"), "json::" + path);
  ASSERT_EQ(report.notices.size(), 1u);
  EXPECT_EQ(report.notices[0], "json::" + path + ": keys not used: mlp_rank");
}

class CheckpointModelTest : public ModelFileTest {
 protected:
  CheckpointModelTest() { write(std::string("{") + kSmallModel + "}"); }
  ResolvedConfig resolve(std::vector<Assignment> flags) const {
    flags.push_back({"load_checkpoint", "params::" + directory_.path().string()});
    return resolve_config(Command::kTrain, {std::move(flags), {}});
  }
  const std::string name_ = "checkpoint " + directory_.path().string();
};

TEST_F(CheckpointModelTest, CountsWhereNoPresetIsNamed) {
  const auto [config, report] = resolve({{"llama.max_sequence_length", "99"}});
  EXPECT_EQ(config.llama.hidden_size, 64);
  EXPECT_EQ(config.llama.max_sequence_length, 99);
  EXPECT_EQ(report.sources.at("llama.hidden_size"), name_);
  EXPECT_TRUE(report.notices.empty());
}

TEST_F(CheckpointModelTest, MustHaveTheSizesOfTheRun) {
  const std::string advice = "; leave out --load_llama_config to take the checkpoint's model";
  EXPECT_EQ(error_text([&] {
              resolve({{"load_llama_config", "1b"}});
            }),
            "llama.vocab_size is 32000 (preset 1b), " + name_ + " has 32" + advice);
  // The same tensors, other heads: nothing else would notice.
  EXPECT_EQ(error_text([&] {
              resolve({{"llama.num_attention_heads", "8"}});
            }),
            "llama.num_attention_heads is 8 (command line), " + name_ + " has 4" + advice);
  EXPECT_EQ(error_text([&] { resolve({{"llama.num_key_value_heads", "4"}}); }), "no error");
}

TEST_F(CheckpointModelTest, MayBeChangedInRopeOnPurposeOnly) {
  const std::string preset = directory_ / "preset.json";
  std::ofstream(preset) << R"({"vocab_size": 32, "hidden_size": 64, "intermediate_size": 80,
      "num_hidden_layers": 3, "num_attention_heads": 4, "rope_theta": 1e4})";
  EXPECT_EQ(error_text([&] {
              resolve({{"load_llama_config", "json::" + preset}});
            }).substr(0, 42),
            "llama.rope_theta is 10000.0 (json::" + preset.substr(0, 7));
  const auto report = resolve({{"llama.rope_theta", "1e7"}}).report;
  ASSERT_EQ(report.notices.size(), 1u);
  EXPECT_EQ(report.notices[0],
            "llama.rope_theta is 10000000.0 (command line), " + name_ + " has 500000.0");
}

TEST_F(CheckpointModelTest, OfATrainStateIsThatOfItsNewestSave) {
  const fs::path run = directory_.path() / "run";
  fs::create_directory(run);
  const auto resolve_state = [&](const std::string& kind, const FindSave& newest_save) {
    return resolve_config(Command::kEval, {{{"load_checkpoint", kind + "::" + run.string()}}, {}},
                          newest_save);
  };
  for (const char* kind : {"trainstate", "trainstate_params"}) {
    const auto [config, report] = resolve_state(kind, [&](const fs::path& path) {
      EXPECT_EQ(path, run);
      return std::optional(directory_.path());
    });
    EXPECT_EQ(config.llama.num_hidden_layers, 3);
    EXPECT_EQ(report.sources.at("llama.hidden_size"), name_);
    EXPECT_EQ(error_text([&] { resolve_state(kind, {}); }),
              "load_checkpoint: no train state in " + run.string());
  }
}

TEST_F(CheckpointModelTest, MustBeThere) {
  const std::string nowhere = directory_ / "nowhere";
  const auto error = [&](Command command, std::vector<Assignment> flags, const char* kind) {
    flags.push_back({"load_checkpoint", kind + ("::" + nowhere)});
    return error_text([&] { resolve_config(command, {std::move(flags), {}}); });
  };
  const std::string expected = "load_checkpoint: there is no directory " + nowhere;
  for (const Command command : {Command::kTrain, Command::kEval, Command::kVerify}) {
    EXPECT_EQ(error(command, {}, "params"), expected);
    EXPECT_EQ(error(command, {{"load_llama_config", "debug"}}, "params"), expected);
    EXPECT_EQ(error(command, {}, "trainstate"), expected);
  }
  // A plan needs it for the model alone.
  EXPECT_EQ(error(Command::kPlan, {}, "params"), expected);
  EXPECT_EQ(error(Command::kPlan, {{"load_llama_config", "debug"}}, "params"), "no error");
}

TEST_F(CheckpointModelTest, OfATrainStateIsTheRuns) {
  TrainConfig config;
  config.llama = read_model_config(directory_ / "config.json");
  const auto agree = [&](Loading loading) {
    ConfigReport report{{{"llama.rope_theta", "command line"}}, {}};
    agree_with_checkpoint(config, directory_.path(), loading, report);
    return report.notices;
  };
  config.llama.max_sequence_length = 1 << 20;
  config.llama.attention_type = "ring_blockwise";
  config.llama.remat_block = "offload";
  config.llama.num_key_value_heads = 4;
  config.llama.rope_scaling.low_freq_factor = 2;  // of another rope type
  EXPECT_TRUE(agree(Loading::kTrainState).empty());
  config.llama.rope_theta = 1e7;
  EXPECT_EQ(agree(Loading::kParameters).size(), 1u);
  EXPECT_EQ(error_text([&] { agree(Loading::kTrainState); }),
            "llama.rope_theta is 10000000.0 (command line), " + name_ +
                " has 500000.0; a train state goes on with the model that it was saved with");
}

TEST_F(CheckpointModelTest, ChangedTrainingIsNoticed) {
  TrainConfig config;
  const auto notices = [&] {
    ConfigReport report{{{"packing", "command line"}}, {}};
    notice_changed_training(config, directory_.path(), report);
    return report.notices;
  };
  EXPECT_TRUE(notices().empty());  // no file
  std::ofstream(directory_ / "config.resolved.json") << config_to_json(Command::kTrain, config, {});
  config.optimizer.adamw_optimizer.lr *= 2;
  config.optimizer.palm_optimizer.b1 = 0.5;  // of the other optimizer
  config.total_steps *= 2;
  config.train_dataset.json_dataset.batch_size *= 2;
  EXPECT_TRUE(notices().empty());
  config.packing = "documents";
  config.optimizer.adamw_optimizer.bf16_momentum = !config.optimizer.adamw_optimizer.bf16_momentum;
  const auto found = notices();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0],
            "packing is \"documents\" (command line), " + name_ + " was trained with \"none\"");
  EXPECT_TRUE(found[1].starts_with("optimizer.adamw_optimizer.bf16_momentum is ")) << found[1];
}

}  // namespace
}  // namespace ringtrain
