// What users get wrong: each ends with one line that says so and the exit code of its kind, on one
// rank and under mpirun, soon and without a word from MPI or the C++ library.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "support/golden.h"
#include "support/small_run.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;
using Options = std::vector<std::string>;

constexpr double kTimeout = 60;  // seconds; each takes about one on an idle machine

/// Lines with which the program itself speaks of an error.
std::vector<std::string> error_lines(const std::string& text) {
  std::vector<std::string> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("ringtrain:") && !line.starts_with("ringtrain: warning:")) {
      found.push_back(line);
    }
  }
  return found;
}

void expect_refusal(const ProgramResult& result, int exit_code, const std::string& message) {
  EXPECT_EQ(result.exit_code, exit_code) << result.output << result.errors;
  const auto lines = error_lines(result.errors);
  ASSERT_EQ(lines.size(), 1u) << result.errors;
  EXPECT_NE(lines[0].find(message), std::string::npos) << lines[0];
  for (const char* noise : {"MPI_ABORT", "MPI_Abort", "terminate called", "what():", "signal"}) {
    EXPECT_EQ(result.errors.find(noise), std::string::npos) << result.errors;
  }
}

struct BadInput {
  std::string name;
  std::string mesh;
  Options options;  // "@" stands for the directory of broken files
  int exit_code;
  std::string message;  // part of the line
};

void PrintTo(const BadInput& input, std::ostream* out) {
  *out << input.name;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("no " + from + " in " + text);
  return text.replace(at, from.size(), to);
}

/// A copy of the model in `from` whose safetensors file is edited.
void break_model(const fs::path& from, const fs::path& to,
                 const std::function<std::string(std::string)>& edit) {
  fs::create_directory(to);
  fs::copy_file(from / "config.json", to / "config.json");
  write_text_file(to / "model.safetensors", edit(read_text_file(from / "model.safetensors")));
}

std::string with_header_length(std::string file, std::uint64_t length) {
  std::memcpy(file.data(), &length, sizeof length);
  return file;
}

class BadInputTest : public ::testing::TestWithParam<BadInput> {
 protected:
  static void SetUpTestSuite() {
    directory_ = new TemporaryDirectory();
    const fs::path& here = directory_->path();
    const std::string sample = read_text_file(sample_data());
    write_text_file(here / "empty.jsonl", "");
    write_text_file(here / "blank.jsonl", "\n\n  \n");
    write_text_file(here / "short.jsonl", sample.substr(0, sample.find('\n') + 1));
    write_text_file(here / "broken.jsonl", "{\"text\": \n[1, 2]\nnot json\n");
    write_text_file(here / "number.jsonl", "{\"text\": 7}\n");
    write_text_file(here / "cut.model", read_text_file(sample_tokenizer()).substr(0, 1000));
    write_text_file(here / "no.model", "this is not a tokenizer");
    write_text_file(here / "broken.json", "{\"seed\": }");
    write_text_file(here / "unknown.json", "{\"optimizer\": {\"typ\": \"adamw\"}}");
    write_text_file(here / "file", "in the way of a directory");

    const ProgramResult result = train_on_mesh(
        "1,1,1,1", small_run(here / "run", {"--total_steps=1", "--save_milestone_freq=1",
                                            "--checkpointer.save_optimizer_state=False"}));
    ASSERT_EQ(result.exit_code, 0) << result.errors;
    const fs::path model = here / "run/checkpoint/step-00000001";
    fs::rename(model, here / "model");
    const auto broken = [&](const char* name, auto edit) {
      break_model(here / "model", here / name, edit);
    };
    broken("renamed", [](const std::string& file) {
      return replaced(file, "\"model.norm.weight\"", "\"model.nrom.weight\"");
    });
    broken("misshapen",
           [](const std::string& file) { return replaced(file, "[64,32]", "[32,64]"); });
    broken("truncated", [](const std::string& file) { return file.substr(0, file.size() - 100); });
    broken("long_header",
           [](const std::string& file) { return with_header_length(file, file.size() + 1); });
    broken("overlapping", [](const std::string& file) {
      const std::size_t offsets = file.find("\"data_offsets\":[", file.find("data_offsets") + 1);
      std::string edited = file;
      edited[offsets + std::strlen("\"data_offsets\":[")] = '1';
      return edited;
    });
    fs::create_directory(here / "no_model");
    fs::copy_file(here / "model/config.json", here / "no_model/config.json");
    fs::create_directory(here / "no_config");
  }
  static void TearDownTestSuite() {
    delete directory_;
    directory_ = nullptr;
  }

  static Options in_place(const Options& options) {
    Options placed;
    for (std::string option : options) {
      if (const std::size_t at = option.find('@'); at != option.npos) {
        option.replace(at, 1, directory_->path().string());
      }
      placed.push_back(option);
    }
    return placed;
  }
  static TemporaryDirectory* directory_;
};
TemporaryDirectory* BadInputTest::directory_ = nullptr;

TEST_P(BadInputTest, IsRefusedInOneLine) {
  const BadInput& c = GetParam();
  const TemporaryDirectory output;
  RunningProgram program(train_command(c.mesh, small_run(output / "run", in_place(c.options))));
  expect_refusal(program.wait(kTimeout), c.exit_code, c.message);
}

constexpr const char* kOne = "1,1,1,1";
constexpr const char* kRing = "1,1,1,2";
constexpr const char* kFsdp = "1,2,1,1";
constexpr const char* kTensor = "1,1,2,1";
const std::string kPath = "--train_dataset.json_dataset.path=";
const std::string kFields = "--train_dataset.text_processor.fields=";
const std::string kLoad = "--load_checkpoint=";

INSTANTIATE_TEST_SUITE_P(
    Mesh, BadInputTest,
    ::testing::Values(
        BadInput{"sequence",
                 kRing,
                 {"--train_dataset.json_dataset.seq_length=65"},
                 2,
                 "json_dataset.seq_length 65 is not a multiple of 2"},
        BadInput{"copies",
                 kRing,
                 {"--ring_transport=copy"},
                 2,
                 "--ring_transport=copy needs GPUs; the ranks run on CPUs"},
        BadInput{"heads", "1,1,3,1", {}, 2, "num_attention_heads 4 is not divisible by tp 3"},
        BadInput{"kv_heads",
                 kTensor,
                 {"--llama.num_key_value_heads=1"},
                 2,
                 "num_key_value_heads 1 is not divisible by tp 2"},
        BadInput{"ffn",
                 kTensor,
                 {"--update_llama_config=dict(hidden_size=32,intermediate_size=63)"},
                 2,
                 "intermediate_size 63 is not divisible by tp 2"},
        BadInput{"batch",
                 kFsdp,
                 {"--train_dataset.json_dataset.batch_size=3"},
                 2,
                 "json_dataset.batch_size 3 is not divisible by dp x fsdp = 1 x 2 = 2"},
        BadInput{"eval_batch",
                 kFsdp,
                 {"--eval_steps=1", "--eval_dataset.json_dataset.path=@/short.jsonl",
                  "--eval_dataset.text_processor.fields=text",
                  "--eval_dataset.json_dataset.batch_size=1"},
                 2,
                 "eval_dataset.json_dataset.batch_size 1 is not divisible"}),
    [](const auto& each) { return each.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Configuration, BadInputTest,
    ::testing::Values(
        BadInput{"key",
                 kOne,
                 {"--update_llama_config=dict(hiden_size=32)"},
                 2,
                 "unknown model key 'hiden_size'; did you mean 'hidden_size'?"},
        BadInput{"preset", kRing, {"--load_llama_config=7bb"}, 2, "did you mean '7b'?"},
        BadInput{"attention_type",
                 kOne,
                 {"--llama.attention_type=ring_blockwis"},
                 2,
                 "'ring_blockwis' is not one of '', 'standard', 'ring_standard', 'blockwise'"},
        BadInput{"config_file", kOne, {"--config=@/broken.json"}, 2, "parse error at line 1"},
        BadInput{"config_key", kOne, {"--config=@/unknown.json"}, 2, "did you mean"},
        BadInput{"huggingface",
                 kOne,
                 {"--train_dataset.type=huggingface"},
                 2,
                 "scripts/prepare_data.py"},
        BadInput{"online", kOne, {"--logger.online=True"}, 2, "metrics.jsonl"},
        BadInput{"fp16", kOne, {"--dtype=fp16"}, 2, "dtype fp16 is not supported"},
        BadInput{"dropout", kOne, {"--llama.attn_pdrop=0.1"}, 2, "dropout is not supported"},
        BadInput{"fcm",
                 kOne,
                 {"--llama.fcm_max_ratio=0.1"},
                 2,
                 "forgetful causal masking is not supported"},
        BadInput{"flax_params", kOne, {kLoad + "flax_params::@/file"}, 2, "flax_params"},
        BadInput{"no_steps", kOne, {"--total_steps=0"}, 2, "total_steps must be at least 1"}),
    [](const auto& each) { return each.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Data, BadInputTest,
    ::testing::Values(
        BadInput{"missing",
                 kRing,
                 {kPath + "@/nowhere.jsonl"},
                 3,
                 "nowhere.jsonl: cannot be opened: No such file or directory"},
        BadInput{"directory", kOne, {kPath + "@"}, 3, "is not a regular file"},
        BadInput{"empty", kRing, {kPath + "@/empty.jsonl"}, 3, "empty.jsonl: is empty"},
        BadInput{"blank", kOne, {kPath + "@/blank.jsonl"}, 3, "gives 0 tokens"},
        BadInput{"short_of_a_batch",
                 kRing,
                 {kPath + "@/short.jsonl"},
                 3,
                 "one batch needs 257: batch_size 4 x seq_length 64 + 1"},
        BadInput{
            "all_broken", kOne, {kPath + "@/broken.jsonl"}, 3, "gives 0 tokens (3 broken lines)"},
        BadInput{"no_field", kRing, {kFields + "txt"}, 3, "has no field 'txt'"},
        BadInput{"field_of_another_type", kOne, {kPath + "@/number.jsonl"}, 3, "text"},
        BadInput{"no_fields", kOne, {kFields}, 2, "text_processor.fields"},
        BadInput{"start_behind_the_end",
                 kOne,
                 {"--train_dataset.json_dataset.start_seek_loc=1000000"},
                 2,
                 "start_seek_loc"},
        BadInput{"no_tokenizer", kOne, {"--tokenizer.vocab_file="}, 2, "no tokenizer"},
        BadInput{"missing_tokenizer",
                 kRing,
                 {"--tokenizer.vocab_file=@/nowhere.model"},
                 3,
                 "nowhere.model: cannot be opened: No such file"},
        BadInput{"truncated_tokenizer",
                 kRing,
                 {"--tokenizer.vocab_file=@/cut.model"},
                 3,
                 "cut.model: is not a SentencePiece model, or was truncated"},
        BadInput{"no_such_tokenizer",
                 kOne,
                 {"--tokenizer.vocab_file=@/no.model"},
                 3,
                 "is not a SentencePiece model"},
        BadInput{"missing_dataset_state",
                 kOne,
                 {"--load_dataset_state=@/nowhere"},
                 3,
                 "nowhere: cannot be opened"},
        BadInput{"directory_as_dataset_state",
                 kOne,
                 {"--load_dataset_state=@"},
                 3,
                 "is a directory, not a file (--load_dataset_state)"},
        BadInput{"no_dataset_state",
                 kRing,
                 {"--load_dataset_state=@/file"},
                 2,
                 "not a saved dataset state"},
        BadInput{"empty_eval",
                 kRing,
                 {"--eval_steps=1", "--eval_dataset.json_dataset.path=@/empty.jsonl",
                  "--eval_dataset.text_processor.fields=text",
                  "--eval_dataset.json_dataset.seq_length=64"},
                 3,
                 "empty.jsonl: is empty (--eval_dataset.json_dataset.path)"}),
    [](const auto& each) { return each.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Checkpoint, BadInputTest,
    ::testing::Values(
        BadInput{"missing",
                 kRing,
                 {kLoad + "params::@/nowhere", "--load_llama_config="},
                 3,
                 "load_checkpoint: there is no directory "},
        BadInput{"missing_state",
                 kRing,
                 {kLoad + "trainstate::@/nowhere", "--load_llama_config="},
                 3,
                 "load_checkpoint: there is no directory "},
        BadInput{"no_such_kind", kOne, {kLoad + "parms::@/model"}, 2, "is not one of"},
        BadInput{"no_model",
                 kOne,
                 {kLoad + "params::@/no_model"},
                 3,
                 "has neither model.safetensors nor"},
        BadInput{"no_config",
                 kRing,
                 {kLoad + "params::@/no_config", "--load_llama_config="},
                 3,
                 "config.json"},
        BadInput{"no_state", kRing, {kLoad + "trainstate::@/model"}, 3, "no train state there"},
        BadInput{"missing_and_extra",
                 kOne,
                 {kLoad + "params::@/renamed"},
                 3,
                 "missing: 'model.norm.weight'; not in the model: 'model.nrom.weight'"},
        BadInput{"misshapen",
                 kRing,
                 {kLoad + "params::@/misshapen"},
                 3,
                 "other shapes: 'model.layers.0.mlp."},
        BadInput{"truncated", kRing, {kLoad + "params::@/truncated"}, 3, "truncated"},
        BadInput{"long_header", kOne, {kLoad + "params::@/long_header"}, 3, "long_header"},
        BadInput{"overlapping", kOne, {kLoad + "params::@/overlapping"}, 3, "overlapping"},
        BadInput{"small_vocabulary",
                 kRing,
                 {kLoad + "params::" + (golden_directory() / "hf/llama1").string(),
                  "--load_llama_config=", "--update_llama_config="},
                 2,
                 "vocab"}),
    [](const auto& each) { return each.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Output, BadInputTest,
    ::testing::Values(
        BadInput{"file_in_the_way", kRing, {"--logger.output_dir=@/file"}, 3, "logger.output_dir"},
        BadInput{
            "parent_is_a_file", kOne, {"--logger.output_dir=@/file/run"}, 3, "logger.output_dir"}),
    [](const auto& each) { return each.param.name; });

TEST(BadInput, MeshNamesTheRanksItNeeds) {
  const TemporaryDirectory output;
  for (const int ranks : {1, 2}) {
    std::vector<std::string> arguments = small_run(output / "run", {"--mesh_dim=1,1,4,64"});
    arguments.insert(arguments.begin(), "train");
    expect_refusal(run_program_on_ranks(ranks, arguments), 2,
                   "mesh_dim 1,1,4,64 needs 256 ranks, the world has " + std::to_string(ranks));
  }
}

TEST(BadInput, SingletonsAreRefused) {
  const TemporaryDirectory output;
  std::vector<std::string> command = train_command("1,1,1,1", small_run(output / "run"));
  command.insert(command.begin(), {"env", "OMPI_COMM_WORLD_SIZE=4"});
  expect_refusal(run_process(command), 2, "launched as 4 singletons");
}

TEST(BadInput, BrokenLinesAreReportedAndSkipped) {
  const TemporaryDirectory directory;
  std::string text = read_text_file(sample_data());
  text.insert(text.find('\n') + 1, "{\"text\": \"unfinished\n\n[\"no object\"]\n");
  write_text_file(directory / "data.jsonl", text);
  const ProgramResult result = train_on_mesh(
      "1,1,1,2", small_run(directory / "run", {kPath + (directory / "data.jsonl").string()}));
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(read_metrics(directory / "run/metrics.jsonl").size(), 10u);
  EXPECT_NE(result.errors.find("line 2 of "), std::string::npos) << result.errors;
  EXPECT_NE(result.errors.find("line 4 of "), std::string::npos) << result.errors;
  EXPECT_EQ(result.errors.find("line 3 of "), std::string::npos) << result.errors;
}

// Before the memory of a model that nobody asked for is planned.
TEST(BadInput, AMissingCheckpointIsNamed) {
  for (const char* command : {"eval", "verify"}) {
    const ProgramResult result =
        run_on_cpu_mesh("1,1,1,1", {command, "--load_checkpoint=params::nowhere"});
    expect_refusal(result, 3, "load_checkpoint: there is no directory nowhere");
  }
}

}  // namespace
}  // namespace ringtrain
