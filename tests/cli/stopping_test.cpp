// Runs that end before their last step: by a signal, with the state saved, or by a lost rank.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "support/small_run.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;
using Options = std::vector<std::string>;

constexpr double kTimeout = 60;  // seconds
constexpr int kStopped = 75;     // ExitCode::kStoppedBySignal

/// Far more steps than a test waits for.
const Options kLong{"--total_steps=1000000"};

/// The run in `output` continues at the step of its newest save.
void expect_continues(const std::string& mesh, const fs::path& output) {
  const std::string latest = read_text_file(output / "checkpoint/latest");
  const int saved = std::stoi(latest.substr(latest.find('-') + 1));
  const ProgramResult result = train_on_mesh(
      mesh, small_run(output, {"--total_steps=" + std::to_string(saved + 5), "--autoresume"}));
  ASSERT_EQ(result.exit_code, 0) << result.output << result.errors;
  EXPECT_NE(result.output.find(fmt::format("continuing at step {} ", saved)), std::string::npos)
      << result.output;
  const auto metrics = read_metrics(output / "metrics.jsonl");
  EXPECT_EQ(metrics.back().at("step"), saved + 4);
  for (std::size_t i = 1; i < metrics.size(); ++i) {
    EXPECT_LT(metrics[i - 1].at("step"), metrics[i].at("step"));
  }
}

struct StopCase {
  std::string name, mesh;
  int signal;
  std::vector<std::size_t> ranks;  // who gets the signal; none: the process that was started
};
class Stopping : public ::testing::TestWithParam<StopCase> {};

TEST_P(Stopping, SavesAndContinues) {
  const StopCase& c = GetParam();
  const TemporaryDirectory output;
  RunningProgram program(train_command(c.mesh, small_run(output.path(), kLong)));
  ASSERT_TRUE(wait_for_steps(output.path(), 3));
  const std::vector<pid_t> ranks = program.children();
  if (c.ranks.empty()) program.signal(c.signal);
  for (const std::size_t rank : c.ranks) kill(ranks.at(rank), c.signal);
  const ProgramResult result = program.wait(kTimeout);
  EXPECT_EQ(result.exit_code, kStopped) << result.output << result.errors;
  EXPECT_NE(result.output.find("stopped by "), std::string::npos) << result.output;
  expect_continues(c.mesh, output.path());
}

INSTANTIATE_TEST_SUITE_P(Signals, Stopping,
                         ::testing::Values(StopCase{"usr1", "1,1,1,1", SIGUSR1, {}},
                                           StopCase{"usr1_of_mpirun", "1,1,1,2", SIGUSR1, {}},
                                           StopCase{"term", "1,1,1,1", SIGTERM, {}},
                                           StopCase{
                                               "term_of_all_ranks", "1,1,1,2", SIGTERM, {0, 1}},
                                           StopCase{"term_of_one_rank", "1,2,1,1", SIGTERM, {1}}),
                         [](const auto& each) { return each.param.name; });

// An evaluation may take longer than a scheduler waits.
TEST(Evaluation, IsGivenUp) {
  const TemporaryDirectory output;
  RunningProgram program(train_command(
      "1,1,1,2",
      small_run(output.path(), {"--total_steps=1000000", "--eval_steps=1000000",
                                "--eval_dataset.json_dataset.path=" + sample_data().string(),
                                "--eval_dataset.text_processor.fields=answer",
                                "--eval_dataset.json_dataset.seq_length=64"})));
  ASSERT_TRUE(wait_for_steps(output.path(), 0));
  std::this_thread::sleep_for(std::chrono::seconds(1));  // it is in the evaluation of step 0
  program.signal(SIGUSR1);
  const ProgramResult result = program.wait(kTimeout);
  EXPECT_EQ(result.exit_code, kStopped) << result.output << result.errors;
  const auto metrics = read_metrics(output / "metrics.jsonl");
  ASSERT_EQ(metrics.size(), 1u);
  EXPECT_EQ(metrics[0].count("eval_loss"), 0u);
  expect_continues("1,1,1,2", output.path());
}

// mpirun waits odls_base_sigkill_timeout seconds, passes SIGTERM on, waits again and kills; its
// exit code is its own. It reads no output meanwhile: a rank that fills the pipe stands still.
TEST(StoppingMpirun, LeavesTheStateBehind) {
  const TemporaryDirectory output;
  Options options = kLong;
  options.push_back("--log_freq=200");
  Options command = train_command("1,1,1,2", small_run(output.path(), options));
  command.insert(command.begin() + 1, {"--mca", "odls_base_sigkill_timeout", "3"});
  RunningProgram program(command);
  ASSERT_TRUE(wait_for_steps(output.path(), 2));
  program.signal(SIGTERM);
  const ProgramResult result = program.wait(kTimeout);
  EXPECT_NE(result.exit_code, 0) << result.output << result.errors;
  EXPECT_NE(result.exit_code, kTimedOut) << result.output << result.errors;
  expect_continues("1,1,1,2", output.path());
}

TEST(LostRank, EndsTheJob) {
  for (const std::size_t lost : {0, 1}) {
    const TemporaryDirectory output;
    RunningProgram program(train_command("1,1,1,2", small_run(output.path(), kLong)));
    ASSERT_TRUE(wait_for_steps(output.path(), 3));
    const std::vector<pid_t> ranks = program.children();
    ASSERT_EQ(ranks.size(), 2u);
    kill(ranks[lost], SIGKILL);
    const ProgramResult result = program.wait(kTimeout);
    EXPECT_NE(result.exit_code, kTimedOut);
    EXPECT_NE(result.exit_code, 0) << result.output << result.errors;
  }
}

TEST(StuckRank, EndsTheJob) {
  const TemporaryDirectory output;
  Options options = kLong;
  options.push_back("--timeout_s=3");
  RunningProgram program(train_command("1,1,1,2", small_run(output.path(), options)));
  ASSERT_TRUE(wait_for_steps(output.path(), 3));
  const std::vector<pid_t> ranks = program.children();
  ASSERT_EQ(ranks.size(), 2u);
  kill(ranks[1], SIGSTOP);
  const ProgramResult result = program.wait(kTimeout);
  kill(ranks[1], SIGCONT);
  EXPECT_EQ(result.exit_code, 4) << result.output << result.errors;
  EXPECT_NE(("\n" + result.errors).find("\nringtrain: rank 1 has not reported for "),
            std::string::npos)
      << result.errors;
}

// Nobody has heard of anybody meanwhile, and that is nobody's fault.
TEST(PausedJob, Continues) {
  const TemporaryDirectory output;
  Options options = kLong;
  options.push_back("--timeout_s=2");
  RunningProgram program(train_command("1,1,1,2", small_run(output.path(), options)));
  ASSERT_TRUE(wait_for_steps(output.path(), 3));
  const std::vector<pid_t> ranks = program.children();
  for (const pid_t rank : ranks) kill(rank, SIGSTOP);
  std::this_thread::sleep_for(std::chrono::seconds(4));
  for (const pid_t rank : ranks) kill(rank, SIGCONT);
  std::this_thread::sleep_for(std::chrono::seconds(1));
  program.signal(SIGUSR1);
  const ProgramResult result = program.wait(kTimeout);
  EXPECT_EQ(result.exit_code, kStopped) << result.output << result.errors;
}

}  // namespace
}  // namespace ringtrain
