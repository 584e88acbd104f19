#include "ringtrain/config/resolve.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/error_text.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

class ResolveTest : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    const std::string path = directory_ / name;
    std::ofstream(path) << text;
    return path;
  }
  static ResolvedConfig resolve(std::vector<Assignment> flags,
                                std::vector<std::string> files = {}) {
    return resolve_config(Command::kTrain, {std::move(flags), std::move(files)});
  }
  /// The message for a file with this text, without the path.
  std::string file_error(const std::string& text) {
    const std::string path = write("wrong.json", text);
    const std::string error = error_text([&] { resolve({}, {path}); });
    const std::string context = "\n  while reading " + path;
    EXPECT_TRUE(error.ends_with(context) || error.ends_with("file " + path)) << error;
    return error.substr(0, error.find('\n'));
  }
  TemporaryDirectory directory_;
};

TEST_F(ResolveTest, LaterSourcesWin) {
  const std::string first = write("first.json", R"({"seed": 1, "total_steps": 10, "log_freq": 5,
      "llama": {"hidden_size": 11, "num_hidden_layers": 12, "num_attention_heads": 13}})");
  const std::string second = write("second.json", R"({"total_steps": 20,
      "llama.num_hidden_layers": 22, "load_llama_config": "debug"})");
  const auto [config, report] = resolve({{"log_freq", "3"},
                                         {"log_freq", "4"},
                                         {"llama.num_attention_heads", "33"},
                                         {"llama.intermediate_size", "34"},
                                         {"update_llama_config", "dict(intermediate_size=44)"}},
                                        {first, second});
  EXPECT_EQ(config.seed, 1);
  EXPECT_EQ(config.total_steps, 20);
  EXPECT_EQ(config.log_freq, 4);
  EXPECT_EQ(config.llama.max_sequence_length, 2048);
  EXPECT_EQ(config.llama.hidden_size, 11);
  EXPECT_EQ(config.llama.num_hidden_layers, 22);
  EXPECT_EQ(config.llama.num_attention_heads, 33);
  EXPECT_EQ(config.llama.intermediate_size, 44);
  const auto& sources = report.sources;
  EXPECT_EQ(sources.at("llama.vocab_size"), "preset debug");
  EXPECT_EQ(sources.at("seed"), "file " + first);
  EXPECT_EQ(sources.at("total_steps"), "file " + second);
  EXPECT_EQ(sources.at("log_freq"), "command line");
  EXPECT_EQ(sources.at("llama.intermediate_size"), "update_llama_config of the command line");
  EXPECT_FALSE(sources.contains("eval_steps"));
}

TEST_F(ResolveTest, AFilesUpdateYieldsToFlags) {
  const std::string file = write("run.json", R"({"llama": {"hidden_size": 1},
      "update_llama_config": {"hidden_size": 2, "vocab_size": 3}})");
  EXPECT_EQ(resolve({}, {file}).config.llama.hidden_size, 2);
  const auto [config, report] = resolve({{"llama.hidden_size", "5"}}, {file});
  EXPECT_EQ(config.llama.hidden_size, 5);
  EXPECT_EQ(config.llama.vocab_size, 3);
  EXPECT_EQ(report.sources.at("llama.vocab_size"), "update_llama_config of the file " + file);
  EXPECT_EQ(resolve({{"update_llama_config", ""}}, {file}).config.llama.vocab_size, 32000);
}

TEST_F(ResolveTest, TheMeshIsOne) {
  const auto mesh = [](const std::string& run, const std::string& model) {
    std::vector<Assignment> flags{{"update_llama_config", "dict(mesh_dim='" + model + "')"}};
    if (!run.empty()) flags.push_back({"mesh_dim", run});
    return resolve(flags).config.mesh_dim;
  };
  EXPECT_EQ(mesh("1,1,4,64", "1,1,4,64"), "1,1,4,64");
  EXPECT_EQ(mesh("!1,1,4,64", "sp:64,dp:1,tp:4,fsdp:1"), "!1,1,4,64");
  EXPECT_EQ(mesh("1,-1,1,1", "1,8,1,1"), "1,8,1,1");
  EXPECT_EQ(mesh("1,8,1,1", "1,-1,1,1"), "1,8,1,1");
  EXPECT_EQ(mesh("", "1,2,1,1"), "1,2,1,1");
  EXPECT_EQ(error_text([&] { mesh("1,1,4,64", "1,64,4,1"); }),
            "mesh_dim is 1,1,4,64 (command line) but the model's settings say mesh_dim=1,64,4,1 "
            "(update_llama_config of the command line); give the same mesh in both, or only "
            "--mesh_dim");
}

TEST_F(ResolveTest, FillsInWhatFollows) {
  const auto [config, report] =
      resolve({{"train_dataset.json_dataset.path", "a.jsonl"}, {"llama.scan_attention", "1"}});
  EXPECT_EQ(config.train_dataset.type, "json");
  EXPECT_EQ(config.eval_dataset.type, "");
  EXPECT_EQ(config.llama.attention_type, "blockwise");
  EXPECT_EQ(report.sources.at("llama.attention_type"), "llama.scan_attention");
  EXPECT_EQ(resolve({}).config.llama.attention_type, "standard");
}

TEST_F(ResolveTest, SaysWhatMeansNothing) {
  const auto notices =
      resolve({{"llama.scan_layers", "True"},
               {"logger.project_id", "x"},
               {"jax_distributed.coordinator_address", "y"},
               {"update_llama_config", "dict(param_scan_axis=0,scan_layers=True)"}})
          .report.notices;
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0],
            "accepted, no meaning here: jax_distributed.coordinator_address, "
            "llama.param_scan_axis, llama.scan_layers, logger.project_id");
}

TEST_F(ResolveTest, FilesAreStrict) {
  EXPECT_EQ(file_error(R"({"optimizer": {"adamw_optimizer": {"leraning_rate": 1}}})"),
            "unknown key 'optimizer.adamw_optimizer.leraning_rate'");
  EXPECT_EQ(file_error(R"({"optimizer": {"adamw_optimizer": {"weight_dcay": 1}}})"),
            "unknown key 'optimizer.adamw_optimizer.weight_dcay'; did you mean "
            "'optimizer.adamw_optimizer.weight_decay'?");
  EXPECT_EQ(file_error(R"({"optimiser": {"type": "adamw"}})"),
            "unknown key 'optimiser'; did you mean 'optimizer'?");
  EXPECT_EQ(file_error(R"({"optimizer": {"type": 3}})"), "optimizer.type takes a text, got 3");
  EXPECT_EQ(file_error(R"({"optimizer": 3})"),
            "optimizer is a section and takes a JSON object, got 3");
  EXPECT_EQ(file_error(R"({"seed": 1.5})"), "seed takes a whole number, got 1.5");
  EXPECT_EQ(file_error(R"({"autoresume": 1})"), "autoresume takes true or false, got 1");
  EXPECT_EQ(file_error(R"({"seed": 1, "seed": 2})"), "the key 'seed' is given twice");
  EXPECT_EQ(file_error(R"({"llama": {"head_dim": 1}, "llama.head_dim": 2})"),
            "the key 'llama.head_dim' is given twice");
  EXPECT_EQ(file_error("{\n\"seed\": 1,}").substr(0, 32), "parse error at line 2, column 11");
  EXPECT_EQ(error_text([] { resolve({}, {"/no/such.json"}); }),
            "cannot read /no/such.json\n  while reading /no/such.json");
}

TEST_F(ResolveTest, UpdatesAreStrict) {
  const auto refuse = [](const std::string& text) {
    return error_text([&] { resolve({{"update_llama_config", text}}); });
  };
  EXPECT_EQ(refuse("dict(hiden_size=1)"),
            "unknown model key 'hiden_size'; did you mean 'hidden_size'?\n"
            "  while reading update_llama_config");
  EXPECT_EQ(refuse("7"),
            "expected dict(key=value,...), got 7\n  while reading update_llama_config");
  EXPECT_EQ(refuse("dict(hidden_size='1')").substr(0, 43),
            "hidden_size takes a whole number, got \"1\"\n ");
  EXPECT_EQ(refuse("dict(remat_mlp='all')").substr(0, 32), "remat_mlp 'all' is not one of ''");
  EXPECT_EQ(refuse("dict(remat_mlp='save_attention')").substr(0, 43),
            "remat_mlp 'save_attention' is not one of ''");
}

TEST_F(ResolveTest, OneFileServesEveryCommand) {
  const std::string file = write("run.json", R"({"loss_reduction": "token", "dtype": "bf16",
      "optimizer.type": "palm", "tolerance": 0.5})");
  const auto verify = resolve_config(Command::kVerify, {{}, {file}});
  EXPECT_EQ(verify.config.loss_reduction, "sequence");
  EXPECT_EQ(verify.config.dtype, "bf16");
  EXPECT_EQ(verify.config.verify.tolerance, 0.5);
  EXPECT_EQ(verify.config.optimizer.type, "adamw");
  EXPECT_EQ(error_text([] {
              resolve_config(Command::kVerify, {{{"eval_steps", "1"}}, {}});
            }),
            "unknown option --eval_steps");
}

}  // namespace
}  // namespace ringtrain
