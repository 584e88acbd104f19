#include "ringtrain/cli/job_arguments.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/error_text.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

using Arguments = std::vector<std::string>;

/// What both commands of the original's README share.
Arguments original_command(const Arguments& own) {
  Arguments arguments{"--dtype=bf16",
                      "--total_steps=480000",
                      "--log_freq=200",
                      "--save_model_freq=0",
                      "--save_milestone_freq=1000",
                      "--load_dataset_state=",
                      "--load_checkpoint=",
                      "--tokenizer.vocab_file=<path to your llama tokenizer>",
                      "--optimizer.type=adamw",
                      "--optimizer.adamw_optimizer.weight_decay=0.1",
                      "--optimizer.adamw_optimizer.lr=1.5e-4",
                      "--optimizer.adamw_optimizer.end_lr=1.5e-5",
                      "--optimizer.adamw_optimizer.lr_warmup_steps=2000",
                      "--optimizer.adamw_optimizer.lr_decay_steps=480000",
                      "--train_dataset.type=json",
                      "--train_dataset.text_processor.fields=text",
                      "--train_dataset.json_dataset.path=<path to your training dataset>",
                      "--train_dataset.json_dataset.tokenizer_processes=16",
                      "--checkpointer.save_optimizer_state=True"};
  arguments.insert(arguments.begin(), own.begin(), own.end());
  return arguments;
}

Arguments blockwise_command() {
  return original_command(
      {"--mesh_dim=1,64,4,1", "--load_llama_config=13b",
       "--update_llama_config=dict(max_sequence_length=32768,scan_attention=True,"
       "scan_query_chunk_size=2048,scan_key_chunk_size=4096,remat_attention='nothing_saveable',"
       "scan_mlp=True,scan_mlp_chunk_size=2048,remat_mlp='nothing_saveable',"
       "remat_block='nothing_saveable',scan_layers=True,attention_type='blockwise',"
       "param_scan_axis=0,mesh_dim='1,64,4,1')",
       "--train_dataset.json_dataset.seq_length=32768",
       "--train_dataset.json_dataset.batch_size=64"});
}

Arguments ring_command() {
  return original_command(
      {"--mesh_dim=1,1,4,64", "--load_llama_config=7b",
       "--update_llama_config=dict(max_sequence_length=2097152,scan_attention=True,"
       "scan_query_chunk_size=2048,scan_key_chunk_size=4096,remat_attention='nothing_saveable',"
       "scan_mlp=True,scan_mlp_chunk_size=2048,remat_mlp='nothing_saveable',"
       "remat_block='nothing_saveable',scan_layers=True,attention_type='ring_blockwise',"
       "param_scan_axis=0,mesh_dim='1,1,4,64')",
       "--train_dataset.json_dataset.seq_length=2097152",
       "--train_dataset.json_dataset.batch_size=1"});
}

void expect_shared_values(const TrainConfig& config) {
  EXPECT_EQ(config.dtype, "bf16");
  EXPECT_EQ(config.total_steps, 480000);
  EXPECT_EQ(config.log_freq, 200);
  EXPECT_EQ(config.save_model_freq, 0);
  EXPECT_EQ(config.save_milestone_freq, 1000);
  EXPECT_EQ(config.load_dataset_state, "");
  EXPECT_EQ(config.load_checkpoint, "");
  EXPECT_EQ(config.tokenizer.vocab_file, "<path to your llama tokenizer>");
  EXPECT_EQ(config.optimizer.type, "adamw");
  EXPECT_EQ(config.optimizer.adamw_optimizer.weight_decay, 0.1);
  EXPECT_EQ(config.optimizer.adamw_optimizer.lr, 1.5e-4);
  EXPECT_EQ(config.optimizer.adamw_optimizer.end_lr, 1.5e-5);
  EXPECT_EQ(config.optimizer.adamw_optimizer.lr_warmup_steps, 2000);
  EXPECT_EQ(config.optimizer.adamw_optimizer.lr_decay_steps, 480000);
  EXPECT_EQ(config.train_dataset.type, "json");
  EXPECT_EQ(config.train_dataset.text_processor.fields, "text");
  EXPECT_EQ(config.train_dataset.json_dataset.path, "<path to your training dataset>");
  EXPECT_EQ(config.train_dataset.json_dataset.tokenizer_processes, 16);
  EXPECT_TRUE(config.checkpointer.save_optimizer_state);
  const ModelConfig& llama = config.llama;
  EXPECT_TRUE(llama.scan_attention);
  EXPECT_TRUE(llama.scan_mlp);
  EXPECT_EQ(llama.scan_query_chunk_size, 2048);
  EXPECT_EQ(llama.scan_key_chunk_size, 4096);
  EXPECT_EQ(llama.scan_mlp_chunk_size, 2048);
  EXPECT_EQ(llama.remat_attention, "nothing_saveable");
  EXPECT_EQ(llama.remat_mlp, "nothing_saveable");
  EXPECT_EQ(llama.remat_block, "nothing_saveable");
}

TEST(JobArguments, TheOriginalsBlockwiseCommand) {
  const auto [config, report] = parse_job_arguments(Command::kTrain, blockwise_command()).resolved;
  expect_shared_values(config);
  EXPECT_EQ(config.mesh_dim, "1,64,4,1");
  EXPECT_EQ(config.llama.hidden_size, 5120);
  EXPECT_EQ(config.llama.num_hidden_layers, 40);
  EXPECT_EQ(config.llama.max_sequence_length, 32768);
  EXPECT_EQ(config.llama.resolved_attention_type(), AttentionType::kBlockwise);
  EXPECT_EQ(config.train_dataset.json_dataset.seq_length, 32768);
  EXPECT_EQ(config.train_dataset.json_dataset.batch_size, 64);
  EXPECT_EQ(report.notices,
            (std::vector<std::string>{"accepted, no meaning here: llama.param_scan_axis, "
                                      "llama.scan_layers"}));
  EXPECT_NO_THROW(validate_on_mesh(Command::kTrain, config, 256));
}

TEST(JobArguments, TheOriginalsRingCommand) {
  const TrainConfig config = parse_job_arguments(Command::kTrain, ring_command()).resolved.config;
  expect_shared_values(config);
  EXPECT_EQ(config.mesh_dim, "1,1,4,64");
  EXPECT_EQ(config.llama.hidden_size, 4096);
  EXPECT_EQ(config.llama.max_sequence_length, 2097152);
  EXPECT_EQ(config.llama.resolved_attention_type(), AttentionType::kRingBlockwise);
  EXPECT_EQ(config.train_dataset.json_dataset.seq_length, 2097152);
  EXPECT_EQ(config.train_dataset.json_dataset.batch_size, 1);
  EXPECT_NO_THROW(validate_on_mesh(Command::kTrain, config, 256));
}

/// The recipe, with the paths that it leaves open, gives what the long command gives.
void expect_recipe_equals(const std::string& recipe, const Arguments& command) {
  const TrainConfig expected = parse_job_arguments(Command::kTrain, command).resolved.config;
  const TrainConfig actual =
      parse_job_arguments(Command::kTrain,
                          {std::string("--config=" RT_SOURCE_DIR "/configs/recipes/") + recipe,
                           "--tokenizer.vocab_file=<path to your llama tokenizer>",
                           "--train_dataset.json_dataset.path=<path to your training dataset>"})
          .resolved.config;
  for (const Option& option : options()) {
    // Given twice in the long command, once in the recipe.
    if (option.name == "update_llama_config" || option.name == "llama.mesh_dim") continue;
    EXPECT_EQ(shown_value(option, actual), shown_value(option, expected)) << option.name;
  }
}

TEST(JobArguments, RecipesAreTheOriginalsCommands) {
  expect_recipe_equals("13b-bpt.json", blockwise_command());
  expect_recipe_equals("7b-ring.json", ring_command());
  EXPECT_NO_THROW(parse_job_arguments(Command::kTrain,
                                      {"--config=" RT_SOURCE_DIR "/configs/recipes/demo.json"}));
}

TEST(JobArguments, HelpListsEveryOption) {
  for (const Command command : {Command::kTrain, Command::kEval, Command::kVerify}) {
    const std::string help = *parse_job_arguments(command, {"--help"}).answer;
    EXPECT_NE(help.find("Usage: ringtrain " + std::string(name_of(command))), std::string::npos);
    for (const std::string& name : option_names(command)) {
      EXPECT_NE(help.find("--" + name + " "), std::string::npos) << name;
    }
    EXPECT_NE(help.find("--config FILE"), std::string::npos);
    EXPECT_NE(help.find("--print_config"), std::string::npos);
  }
}

TEST(JobArguments, PrintConfigShowsValuesThatCannotRunToo) {
  const std::string shown =
      *parse_job_arguments(Command::kTrain, {"--print_config", "--dtype=fp16", "--seed=5"}).answer;
  EXPECT_NE(shown.find("  seed            5        command line\n"), std::string::npos) << shown;
  EXPECT_NE(shown.find("\"fp16\""), std::string::npos);
}

TEST(JobArguments, ConfigFilesAreReadInOrder) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "1.json") << R"({"seed": 1, "log_freq": 1})";
  std::ofstream(directory / "2.json") << R"({"seed": 2})";
  const Arguments arguments{"--config=" + (directory / "1.json").string(), "--config",
                            (directory / "2.json").string(), "--train_dataset.json_dataset.path=x",
                            "--train_dataset.text_processor.fields=text"};
  const TrainConfig config = parse_job_arguments(Command::kTrain, arguments).resolved.config;
  EXPECT_EQ(config.seed, 2);
  EXPECT_EQ(config.log_freq, 1);
}

TEST(JobArguments, DataIsRequiredWhereItIsRead) {
  const auto refused = [](Command command, const Arguments& arguments) {
    return error_text([&] { parse_job_arguments(command, arguments); }).substr(0, 43);
  };
  const Arguments train{"--train_dataset.json_dataset.path=x",
                        "--train_dataset.text_processor.fields=text"};
  EXPECT_EQ(refused(Command::kTrain, {}), "train_dataset.json_dataset.path is not set;");
  EXPECT_EQ(refused(Command::kTrain, train), "no error");
  Arguments evaluating = train;
  evaluating.push_back("--eval_steps=1");
  EXPECT_EQ(refused(Command::kTrain, evaluating), "eval_dataset.json_dataset.path is not set; ");
  EXPECT_EQ(refused(Command::kEval, train), "eval_dataset.json_dataset.path is not set; ");
}

TEST(JobArguments, TheMeshMustFitTheModelAndTheBatch) {
  const auto refused = [](const Arguments& own, int world_size) {
    Arguments arguments{"--train_dataset.json_dataset.path=x",
                        "--train_dataset.text_processor.fields=text"};
    arguments.insert(arguments.end(), own.begin(), own.end());
    const TrainConfig config = parse_job_arguments(Command::kTrain, arguments).resolved.config;
    return error_text([&] { validate_on_mesh(Command::kTrain, config, world_size); });
  };
  EXPECT_EQ(refused({}, 8), "no error");
  EXPECT_EQ(refused({}, 3),
            "train_dataset.json_dataset.batch_size 8 is not divisible by dp x fsdp = 1 x 3 = 3; "
            "it is the batch over the whole mesh");
  EXPECT_NE(refused({"--mesh_dim=1,1,3,1"}, 3).find("is not divisible by tp 3; tp can be one of"),
            std::string::npos);
  EXPECT_NE(refused({"--mesh_dim=1,1,1,3"}, 3).find("is not a multiple of 3, which"),
            std::string::npos);
  EXPECT_NE(refused({"--mesh_dim=1,1,1,8", "--sp_type=hybrid"}, 8).find("needs --ulysses_size"),
            std::string::npos);
  EXPECT_NE(refused({"--mesh_dim=1,1,1,64", "--sp_type=ulysses"}, 64).find("64 ranks cannot"),
            std::string::npos);
  EXPECT_NE(refused({"--mesh_dim=1,1,1,3"}, 4).find("mesh_dim 1,1,1,3 needs"), std::string::npos);
}

}  // namespace
}  // namespace ringtrain
