// The program from outside: what it prints and returns.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

struct Outcome {
  int exit_code;
  std::string out, err;
};

/// Runs "ringtrain <arguments>", or "<launcher> ringtrain <arguments>", in a shell.
Outcome run(const std::string& arguments, const std::string& launcher = "") {
  const TemporaryDirectory directory;
  const std::string err_file = directory / "stderr";
  const std::string command = launcher + " " RT_PROGRAM " " + arguments + " 2>" + err_file;
  Outcome outcome{};
  std::FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> buffer{};
  while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) outcome.out += buffer.data();
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  std::ostringstream text;
  text << std::ifstream(err_file).rdbuf();
  outcome.err = text.str();
  return outcome;
}

/// Lines of stderr that the program itself wrote; a launcher adds its own.
int count_own_lines(const std::string& err) {
  int count = 0;
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);) count += line.starts_with("ringtrain:");
  return count;
}

void expect_usage_error(const std::string& arguments, const std::string& message) {
  SCOPED_TRACE(arguments);
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "ringtrain: " + message + "\n");
}

TEST(Program, AnswersHelpAndVersion) {
  const Outcome help = run("--help");
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_EQ(help.err, "");
  for (const char* name : {"\n  train ", "\n  eval ", "\n  verify "}) {
    EXPECT_NE(help.out.find(name), std::string::npos) << name;
  }
  EXPECT_EQ(run("--version").out.substr(0, 10), "ringtrain ");
  EXPECT_EQ(run("train --help").exit_code, 0);
  EXPECT_NE(run("train --help").out.find("--optimizer.adamw_optimizer.lr"), std::string::npos);
}

TEST(Program, UsageErrorsAreOneLineAndExitCodeTwo) {
  expect_usage_error("", "a subcommand is missing; `ringtrain --help` lists them");
  expect_usage_error("train --lerning_rate=1", "unknown option --lerning_rate; --help lists all");
  expect_usage_error("train --mesh_dims=1",
                     "unknown option --mesh_dims; did you mean 'mesh_dim'?; --help lists all");
  expect_usage_error("train --seed=x", "--seed takes a whole number, got \"x\"");
  expect_usage_error("train --dtype='fp16'",
                     "dtype fp16 is not supported: it needs loss scaling; use bf16 or fp32");
  expect_usage_error("eval --load_llama_config='json::'",
                     "load_llama_config 'json::' names no file");
  EXPECT_NE(run("trian").err.find("'trian' is not a subcommand; there are "), std::string::npos);
  EXPECT_NE(run("trian").err.find("did you mean 'train'?"), std::string::npos);
}

TEST(Program, AMissingFileIsAnInputError) {
  const Outcome outcome = run("train --config=/no/such/file.json");
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(outcome.err,
            "ringtrain: cannot read /no/such/file.json\n  while reading /no/such/file.json\n");
}

TEST(Program, PrintConfigShowsProvenanceOutsideTheRepository) {
  const Outcome outcome = run(
      "train --print_config --load_llama_config='1b' --load_dataset_state='' --load_checkpoint=''",
      "cd / &&");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_NE(outcome.out.find("llama.hidden_size          2048  "), std::string::npos)
      << outcome.out;
  EXPECT_NE(outcome.out.find("preset 1b\n"), std::string::npos);
}

TEST(Program, TakesTheQuotingOfTheOriginalsReadme) {
  const Outcome outcome = run(R"sh(train \
    --mesh_dim='1,1,4,64' \
    --dtype='bf16' \
    --total_steps=480000 \
    --load_llama_config='7b' \
    --update_llama_config="dict(max_sequence_length=2097152,scan_attention=True,remat_block='nothing_saveable',scan_layers=True,attention_type='ring_blockwise',param_scan_axis=0,mesh_dim='1,1,4,64')" \
    --load_dataset_state='' \
    --load_checkpoint='' \
    --tokenizer.vocab_file="<path to your llama tokenizer>" \
    --optimizer.adamw_optimizer.lr=1.5e-4 \
    --checkpointer.save_optimizer_state=True --print_config)sh");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* shown :
       {"\"1,1,4,64\"", "2097152 ", "\"ring_blockwise\"", "0.00015 ",
        "\"<path to your llama tokenizer>\"", "load_checkpoint                    \"\" "}) {
    EXPECT_NE(outcome.out.find(shown), std::string::npos) << shown;
  }
}

TEST(Program, ManyRanksReportAUsageErrorOnce) {
  const std::string launcher =
      "timeout 60 " RT_MPIRUN " --allow-run-as-root --oversubscribe --bind-to none -n 3";
  const Outcome outcome = run("train --seed=x", launcher);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(count_own_lines(outcome.err), 1) << outcome.err;
  const Outcome mesh =
      run("train --train_dataset.json_dataset.path=x --train_dataset.text_processor.fields=text",
          launcher);
  EXPECT_EQ(mesh.exit_code, 2);
  EXPECT_EQ(count_own_lines(mesh.err), 1) << mesh.err;
  EXPECT_NE(mesh.err.find("is not divisible by dp x fsdp = 1 x 3"), std::string::npos) << mesh.err;
}

}  // namespace
}  // namespace ringtrain
