// Ten steps, a save, a new process and ten more steps against twenty in one go, through the
// program. `dataset_*_tps` and the other rates are times and differ.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "support/small_run.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;
using Options = std::vector<std::string>;

constexpr const char* kExact[] = {"step",
                                  "loss",
                                  "accuracy",
                                  "learning_rate",
                                  "gradient_norm",
                                  "param_norm",
                                  "eval_loss",
                                  "eval_accuracy",
                                  "attended_keys",
                                  "attention_imbalance",
                                  "dataset_file_loc",
                                  "dataset_example_index",
                                  "dataset_total_tokens"};
// Of a loss on another mesh, whose sums have another order.
constexpr double kMeshTolerance = 1e-4;

void expect_equal(const std::vector<StepMetrics>& actual,
                  const std::vector<StepMetrics>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    for (const char* key : kExact) {
      ASSERT_EQ(actual[i].count(key), expected[i].count(key)) << key;
      if (expected[i].count(key) == 0) continue;
      EXPECT_EQ(actual[i].at(key), expected[i].at(key)) << key << " of step " << i;
    }
  }
}

void expect_close(const std::vector<StepMetrics>& actual,
                  const std::vector<StepMetrics>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    for (const char* key : {"loss", "gradient_norm", "param_norm"}) {
      EXPECT_NEAR(actual[i].at(key), expected[i].at(key), kMeshTolerance * expected[i].at(key))
          << key << " of step " << i;
    }
    EXPECT_EQ(actual[i].at("dataset_total_tokens"), expected[i].at("dataset_total_tokens"));
  }
}

Options with(Options options, const Options& more) {
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

void expect_success(const ProgramResult& result) {
  ASSERT_EQ(result.exit_code, 0) << result.output << result.errors;
}

fs::path save_of_step(const fs::path& run, const char* step) {
  return run / "checkpoint" / (std::string("step-") + step);
}

struct ResumeCase {
  std::string name;
  std::string mesh;
  Options options;
  std::string stop;  // where the first process ends
};

class Resume : public ::testing::TestWithParam<ResumeCase> {};

TEST_P(Resume, ContinuesBitForBit) {
  const ResumeCase& c = GetParam();
  const TemporaryDirectory directory;
  const fs::path straight = directory / "straight";
  const fs::path resumed = directory / "resumed";
  const auto train = [&](const fs::path& output, const Options& more) {
    expect_success(train_on_mesh(c.mesh, with(small_run(output, c.options), more)));
  };
  train(straight, {"--total_steps=20", "--save_milestone_freq=20"});
  train(resumed, {"--total_steps=" + c.stop, "--save_milestone_freq=" + c.stop});
  train(resumed, {"--total_steps=20", "--save_milestone_freq=20", "--autoresume"});

  const auto expected = read_metrics(straight / "metrics.jsonl");
  ASSERT_EQ(expected.size(), 20u);
  EXPECT_LT(expected.back().at("loss"), expected.front().at("loss"));
  expect_equal(read_metrics(resumed / "metrics.jsonl"), expected);

  std::size_t files = 0;
  const fs::path state = save_of_step(straight, "00000020") / "train_state";
  for (const auto& entry : fs::directory_iterator(state)) {
    const fs::path other =
        save_of_step(resumed, "00000020") / "train_state" / entry.path().filename();
    EXPECT_TRUE(read_text_file(entry.path()) == read_text_file(other)) << entry.path().filename();
    ++files;
  }
  EXPECT_GE(files, 3u);  // a shard, its manifest, the position
}

const Options kEverything{"--optimizer.accumulate_gradient_steps=2",
                          "--train_dataset.json_dataset.tokenizer_processes=2",
                          "--train_dataset.json_dataset.tokenizer_parallel_chunk_size=3",
                          "--train_dataset.json_dataset.tokenizer_parallel_batch_size=7",
                          "--eval_steps=2",
                          "--eval_dataset.json_dataset.path=" + sample_data().string(),
                          "--eval_dataset.text_processor.fields=answer",
                          "--eval_dataset.json_dataset.seq_length=32",
                          "--eval_dataset.json_dataset.batch_size=2",
                          "--eval_dataset.json_dataset.tokenizer_processes=2"};

INSTANTIATE_TEST_SUITE_P(
    Cases, Resume,
    ::testing::Values(ResumeCase{"one_rank", "1,1,1,1", {}, "10"},
                      ResumeCase{"one_rank_with_everything", "1,1,1,1", kEverything, "11"},
                      ResumeCase{"ring_with_everything", "1,1,1,2",
                                 with(kEverything, {"--llama.attention_type=ring_blockwise"}),
                                 "10"},
                      ResumeCase{"hybrid_documents",
                                 "1,1,1,4",
                                 {"--sp_type=hybrid", "--ulysses_size=2", "--packing=documents"},
                                 "10"},
                      ResumeCase{"palm", "1,2,1,1", {"--optimizer.type=palm"}, "10"},
                      ResumeCase{"bf16",
                                 "1,1,1,1",
                                 {"--dtype=bf16", "--optimizer.adamw_optimizer.bf16_momentum=True"},
                                 "10"}),
    [](const auto& each) { return each.param.name; });

struct MemoryChange {
  std::string name;
  Options before, after;
};
class ResumeWithOtherMemory : public ::testing::TestWithParam<MemoryChange> {};

// Where masters, moments and activations are changes no bit, also not on the way through a save.
TEST_P(ResumeWithOtherMemory, ContinuesBitForBit) {
  const auto& [name, before, after] = GetParam();
  const TemporaryDirectory directory;
  const auto train = [&](const char* output, const Options& options, const Options& more) {
    const Options bf16{"--dtype=bf16", "--optimizer.adamw_optimizer.bf16_momentum=True"};
    expect_success(
        train_on_mesh("1,2,1,1", with(small_run(directory / output, with(bf16, options)), more)));
  };
  train("straight", {}, {"--total_steps=20", "--save_milestone_freq=20"});
  train("resumed", before, {"--total_steps=10", "--save_milestone_freq=10"});
  train("resumed", after, {"--total_steps=20", "--save_milestone_freq=20", "--autoresume"});
  expect_equal(read_metrics(directory / "resumed/metrics.jsonl"),
               read_metrics(directory / "straight/metrics.jsonl"));
  const std::string shard = "train_state/tp-0-shard-1.safetensors";
  EXPECT_TRUE(read_text_file(save_of_step(directory / "resumed", "00000020") / shard) ==
              read_text_file(save_of_step(directory / "straight", "00000020") / shard));
  const std::string model = "model.safetensors";
  EXPECT_TRUE(read_text_file(save_of_step(directory / "resumed", "00000020") / model) ==
              read_text_file(save_of_step(directory / "straight", "00000020") / model));
}

const Options kOffload{"--offload_optimizer", "--llama.remat_block=offload"};

INSTANTIATE_TEST_SUITE_P(Changes, ResumeWithOtherMemory,
                         ::testing::Values(MemoryChange{"to_host", {}, kOffload},
                                           MemoryChange{"to_device", kOffload, {}},
                                           MemoryChange{"on_host", kOffload, kOffload},
                                           MemoryChange{"chosen",
                                                        {"--llama.remat_block=auto"},
                                                        {"--llama.remat_block=auto"}}),
                         [](const auto& each) { return each.param.name; });

struct MeshChange {
  std::string name, before, after;
};
class ResumeOnAnotherMesh : public ::testing::TestWithParam<MeshChange> {};

TEST_P(ResumeOnAnotherMesh, ContinuesWithinRounding) {
  const TemporaryDirectory directory;
  const auto train = [&](const std::string& mesh, const fs::path& output, const Options& more) {
    expect_success(train_on_mesh(mesh, with(small_run(output), more)));
  };
  const auto& [name, before, after] = GetParam();
  train(before, directory / "straight", {"--total_steps=20"});
  train(before, directory / "resumed", {"--total_steps=10", "--save_milestone_freq=10"});
  train(after, directory / "resumed", {"--total_steps=20", "--autoresume"});
  expect_close(read_metrics(directory / "resumed/metrics.jsonl"),
               read_metrics(directory / "straight/metrics.jsonl"));
}

INSTANTIATE_TEST_SUITE_P(Meshes, ResumeOnAnotherMesh,
                         ::testing::Values(MeshChange{"sp_to_fsdp", "1,1,1,2", "1,2,1,1"},
                                           MeshChange{"one_to_tp", "1,1,1,1", "1,1,2,1"},
                                           MeshChange{"many_to_one", "1,1,2,2", "1,1,1,1"},
                                           MeshChange{"dp_to_sp", "2,1,1,1", "1,1,1,2"}),
                         [](const auto& each) { return each.param.name; });

/// A run of ten steps with a save every five, made once, which others start from.
class LoadCheckpoint : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = new TemporaryDirectory();
    expect_success(train_on_mesh("1,1,1,1", small_run(first(), {"--save_milestone_freq=5"})));
  }
  static void TearDownTestSuite() {
    delete directory_;
    directory_ = nullptr;
  }
  static fs::path first() { return *directory_ / "first"; }
  static std::string save() { return save_of_step(first(), "00000005").string(); }
  static std::vector<StepMetrics> first_metrics() {
    return read_metrics(first() / "metrics.jsonl");
  }

  /// The metrics of a run of `small_run` with these options, in a folder of its own.
  static std::vector<StepMetrics> run(const Options& options) {
    const TemporaryDirectory output;
    const ProgramResult result = train_on_mesh("1,1,1,1", small_run(output.path(), options));
    EXPECT_EQ(result.exit_code, 0) << result.output << result.errors;
    return read_metrics(output / "metrics.jsonl");
  }
  /// The one message of a run that is refused, in the folder of the first.
  static std::string refusal(const Options& options, int exit_code) {
    const TemporaryDirectory output;
    const ProgramResult result = train_on_mesh("1,1,1,1", small_run(output.path(), options));
    EXPECT_EQ(result.exit_code, exit_code) << result.output << result.errors;
    return result.errors;
  }

  static TemporaryDirectory* directory_;
};
TemporaryDirectory* LoadCheckpoint::directory_ = nullptr;

TEST_F(LoadCheckpoint, TrainStateContinues) {
  auto expected = first_metrics();
  expected.erase(expected.begin(), expected.begin() + 5);
  expect_equal(run({"--load_checkpoint=trainstate::" + save()}), expected);
}

TEST_F(LoadCheckpoint, ARunDirectoryMeansItsNewestSave) {
  const auto metrics =
      run({"--load_checkpoint=trainstate::" + first().string(), "--total_steps=11"});
  ASSERT_EQ(metrics.size(), 1u);
  EXPECT_EQ(metrics[0].at("step"), 10);
}

TEST_F(LoadCheckpoint, ParametersAloneStartANewRun) {
  const double loss_of_new = first_metrics()[0].at("loss");
  const auto metrics = run({"--load_checkpoint=trainstate_params::" + save(), "--total_steps=1"});
  ASSERT_EQ(metrics.size(), 1u);
  EXPECT_EQ(metrics[0].at("step"), 0);
  EXPECT_EQ(metrics[0].at("learning_rate"), 0);
  EXPECT_EQ(metrics[0].at("dataset_total_tokens"), 256);
  EXPECT_LT(metrics[0].at("loss"), loss_of_new - 0.05);
}

TEST_F(LoadCheckpoint, ExportedParametersStartANewRun) {
  const auto masters = run({"--load_checkpoint=trainstate_params::" + save(), "--total_steps=1"});
  // Exported in bf16, of which an element's error is 1 / 512 at most.
  const auto exported = run({"--load_checkpoint=params::" + save(), "--total_steps=1"});
  ASSERT_EQ(exported.size(), 1u);
  EXPECT_NEAR(exported[0].at("loss"), masters[0].at("loss"), 2e-3);
  EXPECT_NE(exported[0].at("loss"), masters[0].at("loss"));
}

TEST_F(LoadCheckpoint, DatasetStateContinuesTheData) {
  const Options from_parameters{"--load_checkpoint=params::" + save(), "--total_steps=2"};
  const auto state =
      run(with(from_parameters, {"--load_dataset_state=" + save() + "/dataset_state.json"}));
  const auto expected = first_metrics();
  ASSERT_EQ(state.size(), 2u);
  for (const std::size_t i : {0, 1}) {
    for (const char* key : {"dataset_file_loc", "dataset_example_index", "dataset_total_tokens"}) {
      EXPECT_EQ(state[i].at(key), expected[5 + i].at(key)) << key;
    }
  }
}

TEST_F(LoadCheckpoint, DatasetStateWinsOverTheTrainStates) {
  const std::string other = save_of_step(first(), "00000010").string() + "/dataset_state.json";
  const auto metrics = run({"--load_checkpoint=trainstate::" + save(), "--total_steps=6",
                            "--load_dataset_state=" + other});
  ASSERT_EQ(metrics.size(), 1u);
  EXPECT_EQ(metrics[0].at("step"), 5);
  EXPECT_EQ(metrics[0].at("dataset_total_tokens"), 11 * 256);
}

TEST_F(LoadCheckpoint, ChangedDataIsRefusedByName) {
  const TemporaryDirectory changed;
  fs::path data = changed / "data.jsonl";
  write_text_file(data, read_text_file(sample_data()) + "{\"text\": \"more\"}\n");
  struct Change {
    std::string option, named;
  };
  for (const auto& [option, named] :
       {Change{"--train_dataset.json_dataset.path=" + data.string(), "size of the file"},
        Change{"--train_dataset.json_dataset.batch_size=2", "batch_size changed from 4 to 2"},
        Change{"--train_dataset.json_dataset.seq_length=32", "seq_length changed from 64 to 32"},
        Change{"--train_dataset.text_processor.fields=answer", "fields changed from"}}) {
    const std::string message = refusal({"--load_checkpoint=trainstate::" + save(), option}, 2);
    EXPECT_EQ(message.find("ringtrain: the data cannot be resumed: the " + named), 0u) << message;
  }
}

TEST_F(LoadCheckpoint, AnotherTokenizerIsRefusedByName) {
  const TemporaryDirectory changed;
  // A SentencePiece model is a protocol buffer: a field of a number it does not know changes
  // nothing but the bytes.
  write_text_file(changed / "other.model",
                  read_text_file(sample_tokenizer()) + std::string("\xfa\xff\x03\x00", 4));
  const std::string message =
      refusal({"--load_checkpoint=trainstate::" + save(),
               "--tokenizer.vocab_file=" + (changed / "other.model").string()},
              2);
  EXPECT_EQ(message.find("ringtrain: the data cannot be resumed: the tokenizer changed"), 0u)
      << message;
}

TEST_F(LoadCheckpoint, AnotherOptimizerOrModelIsRefused) {
  EXPECT_NE(refusal({"--load_checkpoint=trainstate::" + save(), "--optimizer.type=palm"}, 2)
                .find("optimizer.type=palm, but"),
            std::string::npos);
  const std::string shape =
      refusal({"--load_checkpoint=trainstate::" + save(),
               "--update_llama_config=dict(hidden_size=32,intermediate_size=48,vocab_size=800)"},
              2);
  EXPECT_NE(shape.find("checkpoint " + save() + " has 64"), std::string::npos) << shape;
  EXPECT_EQ(shape.find("ringtrain: llama.intermediate_size is 48 ("), 0u) << shape;
}

// The tensors fit, what they mean does not.
TEST_F(LoadCheckpoint, AModelOfOtherMathematicsIsRefused) {
  const TemporaryDirectory copy;
  fs::copy(first(), copy / "run", fs::copy_options::recursive);
  const std::string resolved = read_text_file(copy / "run/config.resolved.json");
  struct Change {
    std::string key, value, run, there;
  };
  for (const auto& [key, value, run, there] :
       {Change{"num_attention_heads", "2", "2", "4"},
        Change{"rope_theta", "100", "100.0", "10000.0"},
        Change{"rope_scaling", "dict(rope_type='linear',factor=8.0)", "", ""},
        Change{"rms_norm_eps", "0.1", "0.1", "1e-06"}}) {
    for (const Options& source :
         {Options{"--autoresume", "--logger.output_dir=" + (copy / "run").string()},
          Options{"--load_checkpoint=trainstate::" + (copy / "run").string()}}) {
      const std::string message =
          refusal(with(source, {"--llama." + key + "=" + value, "--total_steps=11"}), 2);
      EXPECT_EQ(message.find("ringtrain: llama." + key + " is " + run), 0u) << message;
      EXPECT_NE(message.find(save_of_step(copy / "run", "00000010").string() + " has " + there),
                std::string::npos)
          << message;
    }
  }
  EXPECT_EQ(read_text_file(copy / "run/config.resolved.json"), resolved);
}

TEST_F(LoadCheckpoint, AllRanksRefuseAnotherModelInOneLine) {
  const ProgramResult result = train_on_mesh(
      "1,1,1,2", small_run(first(), {"--autoresume", "--llama.num_attention_heads=2"}));
  EXPECT_EQ(result.exit_code, 2) << result.output << result.errors;
  EXPECT_EQ(result.errors.find("ringtrain: llama.num_attention_heads is 2 (command line)"), 0u)
      << result.errors;
  EXPECT_EQ(result.errors.rfind("ringtrain: "), 0u) << result.errors;
}

TEST_F(LoadCheckpoint, ParametersAloneMayChangeTheRopeOnPurpose) {
  const std::string load = "--load_checkpoint=trainstate_params::" + save();
  run({load, "--llama.rope_theta=100", "--total_steps=1"});
  refusal({load, "--llama.num_attention_heads=2"}, 2);
}

TEST_F(LoadCheckpoint, ChangedTrainingIsNoticed) {
  const TemporaryDirectory output;
  const ProgramResult result = train_on_mesh(
      "1,1,1,1",
      small_run(output.path(), {"--load_checkpoint=trainstate::" + save(), "--packing=documents",
                                "--optimizer.adamw_optimizer.lr=0.001", "--total_steps=6"}));
  expect_success(result);
  EXPECT_NE(result.output.find("packing is \"documents\" (command line), checkpoint " + save() +
                               " was trained with \"none\""),
            std::string::npos)
      << result.output;
  EXPECT_EQ(result.output.find("lr is"), std::string::npos) << result.output;
}

TEST_F(LoadCheckpoint, TheModelIsThatOfTheSave) {
  const TemporaryDirectory output;
  auto expected = first_metrics();
  expected.erase(expected.begin(), expected.begin() + 5);
  const Options bare{
      "--load_llama_config=", "--update_llama_config=", "--load_checkpoint=trainstate::" + save()};
  expect_equal(run(bare), expected);

  const auto evaluate = [&](const Options& more) {
    return run_on_cpu_mesh("1,1,1,1",
                           with({"eval", "--eval_steps=2", "--dtype=fp32",
                                 "--tokenizer.vocab_file=" + sample_tokenizer().string(),
                                 "--eval_dataset.json_dataset.path=" + sample_data().string(),
                                 "--eval_dataset.text_processor.fields=text",
                                 "--eval_dataset.json_dataset.seq_length=64",
                                 "--eval_dataset.json_dataset.batch_size=4",
                                 "--load_checkpoint=trainstate::" + first().string()},
                                more));
  };
  const ProgramResult result = evaluate({});
  expect_success(result);
  EXPECT_NE(result.output.find("eval_loss "), std::string::npos) << result.output;
  const ProgramResult refused = evaluate({"--llama.rope_theta=100"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(refused.errors.find("ringtrain: llama.rope_theta is 100.0 (command line)"), 0u)
      << refused.errors;
}

TEST_F(LoadCheckpoint, ADamagedNewestSaveFallsBackLoudly) {
  const TemporaryDirectory copy;
  fs::copy(first(), copy / "run", fs::copy_options::recursive);
  const fs::path shard =
      save_of_step(copy / "run", "00000010") / "train_state/tp-0-shard-0.safetensors";
  std::string bytes = read_text_file(shard);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_text_file(shard, bytes);
  for (const std::string mesh : {"1,1,1,1", "1,1,1,2"}) {
    const ProgramResult result =
        train_on_mesh(mesh, small_run(copy / "run", {"--autoresume", "--total_steps=7"}));
    ASSERT_EQ(result.exit_code, 0) << result.output << result.errors;
    EXPECT_NE(result.errors.find("warning: the checkpoint "), std::string::npos) << result.errors;
    EXPECT_NE(result.errors.find("is damaged: its CRC-32 is"), std::string::npos);
    EXPECT_NE(result.output.find("continuing at step 5 of "), std::string::npos) << result.output;
    EXPECT_EQ(read_metrics(copy / "run/metrics.jsonl").size(), 7u);
  }
}

}  // namespace
}  // namespace ringtrain
