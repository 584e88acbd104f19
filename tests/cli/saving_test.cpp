// What a run leaves in its directory, and what survives when it cannot.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "ringtrain/checkpoint/safetensors.h"
#include "support/small_run.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;
using Options = std::vector<std::string>;
using Names = std::vector<std::string>;

Names names_in(const fs::path& folder) {
  Names names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void train(const fs::path& output, const Options& more, const std::string& mesh = "1,1,1,1") {
  const ProgramResult result = train_on_mesh(mesh, small_run(output, more));
  ASSERT_EQ(result.exit_code, 0) << result.output << result.errors;
}

TEST(Saving, RollingSavesReplaceEachOtherAndMilestonesStay) {
  const TemporaryDirectory run;
  train(run.path(), {"--save_model_freq=3", "--save_milestone_freq=4"});
  // After the steps 3, 6 and 9 as well, each removed by the next; the last step is always saved.
  EXPECT_EQ(names_in(run / "checkpoint"),
            (Names{"latest", "step-00000004", "step-00000008", "step-00000010"}));
  EXPECT_EQ(read_text_file(run / "checkpoint/latest"), "step-00000010\n");
  EXPECT_EQ(names_in(run.path()),
            (Names{"checkpoint", "config.resolved.json", "metrics.jsonl", "run.lock"}));
}

TEST(Saving, WithoutFrequenciesNothingIsSaved) {
  const TemporaryDirectory run;
  train(run.path(), {"--total_steps=2"});
  EXPECT_EQ(names_in(run.path()), (Names{"config.resolved.json", "metrics.jsonl", "run.lock"}));
}

TEST(Saving, BeginsBeforeTheFirstStep) {
  const TemporaryDirectory run;
  const std::string text = read_text_file(sample_data());
  write_text_file(run / "short.jsonl", text.substr(0, text.find('\n') + 1));
  const ProgramResult result = train_on_mesh(
      "1,1,1,1",
      small_run(run / "run", {"--save_model_freq=100", "--train_dataset.json_dataset.path=" +
                                                           (run / "short.jsonl").string()}));
  EXPECT_EQ(result.exit_code, 3) << result.errors;  // too short for the first batch
  EXPECT_EQ(names_in(run / "run/checkpoint"), (Names{"latest", "step-00000000"}));
  train(run / "run", {"--autoresume", "--total_steps=1"});
}

TEST(Saving, AModelIsAHuggingFaceDirectory) {
  const TemporaryDirectory run;
  train(run.path(),
        {"--total_steps=1", "--save_model_freq=1", "--checkpointer.save_optimizer_state=False"},
        "1,1,2,2");
  const fs::path model = run / "checkpoint/step-00000001";
  EXPECT_EQ(names_in(model),
            (Names{"config.json", "config.resolved.json", "dataset_state.json",
                   "generation_config.json", "model.safetensors", "tokenizer.model"}));
  std::set<std::string> expected{"model.embed_tokens.weight", "model.norm.weight",
                                 "lm_head.weight"};
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
                             "input_layernorm", "post_attention_layernorm"}) {
      expected.insert(layer + name + ".weight");
    }
  }
  std::set<std::string> names;
  const SafetensorsReader file(model / "model.safetensors");
  for (const auto& entry : file.entries()) {
    names.insert(entry.name);
    EXPECT_EQ(entry.dtype, DType::kBFloat16) << entry.name;
  }
  EXPECT_EQ(names, expected);
}

TEST(Saving, ParametersAndDataPositionContinueExactly) {
  const TemporaryDirectory run;
  train(run / "straight", {"--total_steps=6"});
  train(run / "saved",
        {"--total_steps=5", "--save_model_freq=5", "--checkpointer.save_optimizer_state=False",
         "--checkpointer.float_dtype=fp32"});
  const std::string model = (run / "saved/checkpoint/step-00000005").string();
  train(run / "loaded", {"--total_steps=1", "--load_checkpoint=params::" + model,
                         "--load_dataset_state=" + model + "/dataset_state.json"});
  const double expected = read_metrics(run / "straight/metrics.jsonl").at(5).at("loss");
  EXPECT_EQ(read_metrics(run / "loaded/metrics.jsonl").at(0).at("loss"), expected);
}

TEST(Saving, TheResolvedConfigurationIsAConfiguration) {
  const TemporaryDirectory run;
  train(run / "first", {"--total_steps=3", "--llama.scan_key_chunk_size=17",
                        "--optimizer.type=palm", "--llama.attention_type=blockwise"});
  const ProgramResult again = run_on_cpu_mesh(
      "1,1,1,1", {"train", "--config=" + (run / "first/config.resolved.json").string(),
                  "--logger.output_dir=" + (run / "again").string()});
  ASSERT_EQ(again.exit_code, 0) << again.errors;
  const auto first_metrics = read_metrics(run / "first/metrics.jsonl");
  const auto again_metrics = read_metrics(run / "again/metrics.jsonl");
  ASSERT_EQ(again_metrics.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    for (const char* key : {"loss", "learning_rate", "gradient_norm", "param_norm"}) {
      EXPECT_EQ(again_metrics[i].at(key), first_metrics.at(i).at(key)) << key;
    }
  }
  // But for the directory and where values came from, it resolves to itself.
  const auto values_in = [&](const char* name) {
    const std::string text = read_text_file(run / name / "config.resolved.json");
    return text.substr(0, text.find("\"provenance\""));
  };
  std::string resolved = values_in("again");
  const std::string here = (run / "again").string();
  resolved.replace(resolved.find(here), here.size(), (run / "first").string());
  EXPECT_EQ(resolved, values_in("first"));
}

// A limit on the size of files, set once the run has begun, stands for a disk that is full: the
// parameters (144 KB) fit, a rank's train state (431 KB or more) does not.
TEST(Saving, AFullDiskKeepsThePreviousSave) {
  const TemporaryDirectory run;
  for (const std::string mesh : {"1,1,1,1", "1,1,1,2"}) {
    const fs::path output = run / mesh;
    train(output, {"--total_steps=5", "--save_model_freq=5"}, mesh);
    RunningProgram program(
        train_command(mesh, small_run(output, {"--total_steps=1000000", "--autoresume"})));
    ASSERT_TRUE(wait_for_steps(output, 7));
    const rlimit limit{300 << 10, 300 << 10};
    const bool is_alone = mesh == "1,1,1,1";
    for (const pid_t rank : is_alone ? std::vector{program.pid()} : program.children()) {
      ASSERT_EQ(prlimit(rank, RLIMIT_FSIZE, &limit, nullptr), 0);
    }
    program.signal(SIGUSR1);
    const ProgramResult full = program.wait(60);
    EXPECT_EQ(full.exit_code, 3) << full.output << full.errors;
    EXPECT_NE(full.errors.find("\nringtrain: cannot reserve "), std::string::npos) << full.errors;
    EXPECT_NE(full.errors.find("safetensors: File too large"), std::string::npos) << full.errors;
    EXPECT_EQ(names_in(output / "checkpoint"), (Names{"latest", "step-00000005"}));
    train(output, {"--total_steps=10", "--autoresume"}, mesh);
    EXPECT_EQ(read_metrics(output / "metrics.jsonl").size(), 10u);
  }
}

TEST(Saving, ADivergedRunKeepsThePreviousSave) {
  const TemporaryDirectory run;
  const Options diverging{"--total_steps=10", "--save_model_freq=2", "--autoresume",
                          "--optimizer.adamw_optimizer.lr=1e30",
                          "--optimizer.adamw_optimizer.end_lr=1e30"};
  for (const std::string mesh : {"1,1,1,1", "1,2,1,1"}) {
    const fs::path output = run / mesh;
    train(output, {"--total_steps=4", "--save_model_freq=2"}, mesh);
    const ProgramResult result = train_on_mesh(mesh, small_run(output, diverging));
    EXPECT_EQ(result.exit_code, 1) << result.output << result.errors;
    EXPECT_NE(result.errors.find("ringtrain: the parameters after step 6 are not finite numbers"),
              std::string::npos)
        << result.errors;
    EXPECT_EQ(names_in(output / "checkpoint"), (Names{"latest", "step-00000004"}));
  }
}

TEST(Saving, ASecondJobIsKeptOut) {
  const TemporaryDirectory output;
  RunningProgram first(
      train_command("1,1,1,2", small_run(output.path(), {"--total_steps=1000000"})));
  ASSERT_TRUE(wait_for_steps(output.path(), 1));
  const ProgramResult second = train_on_mesh("1,1,1,2", small_run(output.path()));
  EXPECT_EQ(second.exit_code, 3) << second.output << second.errors;
  EXPECT_EQ(second.errors.find("ringtrain: process "), 0u) << second.errors;
  EXPECT_NE(second.errors.find(" writes to " + output.path().string()), std::string::npos)
      << second.errors;
  first.signal(SIGUSR1);
  EXPECT_EQ(first.wait(60).exit_code, 75);
}

TEST(Saving, AFileInTheWayOfCheckpointsIsNamed) {
  const TemporaryDirectory run;
  write_text_file(run / "checkpoint", "in the way");
  const ProgramResult result =
      train_on_mesh("1,1,1,2", small_run(run.path(), {"--save_model_freq=5"}));
  EXPECT_EQ(result.exit_code, 3) << result.errors;
  EXPECT_EQ(result.errors.find("ringtrain: cannot create directory "), 0u) << result.errors;
}

}  // namespace
}  // namespace ringtrain
