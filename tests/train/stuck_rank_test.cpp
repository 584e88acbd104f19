// A rank that stops or dies inside a training step or a save, seen from outside: the job ends in
// time, and a rank that lives says who, where, and what the others wait for.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>
#include <ostream>
#include <string>
#include <vector>

#include "support/program.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

constexpr double kLimit = 90;  // seconds; the scenarios' timeout_s is 3

struct StuckCase {
  std::string name{};
  int ranks;
  std::string mesh;
  std::string place;      // where rank 1 gets the signal
  std::string told_as{};  // how the table calls that
  std::string waiting{};  // what it says of rank 0
  std::string sp_type = "ring";
};

const std::vector<StuckCase> kCases{
    {"forward", 3, "1,1,1,3", "forward layer 1", "step 2, forward layer 1",
     "step 2, forward layer 1, ring step 0, waiting for hop 0 on group sp;"},
    {"backward", 3, "1,1,1,3", "backward layer 1", "step 2, backward layer 1",
     "step 2, backward layer 1, ring step 0; pending: hop 0, exchange on group sp"},
    {"hop", 2, "1,1,1,2", "waiting for gradient hop 0 on group sp",
     "step 2, backward layer 2, ring step 1",
     "step 2, backward layer 2, waiting for gradient hop 1 on group sp;"},
    {"heads", 2, "1,1,1,2", "waiting for tokens to heads 1 on group ulysses",
     "step 2, forward layer 0, waiting for tokens to heads 1 on group ulysses",
     "step 2, forward layer 0, waiting for heads to tokens 1 on group ulysses;", "ulysses"},
    {"gather", 2, "1,2,1,1", "gather layer 2", "step 2, forward layer 1",
     "step 2, forward layer 2, waiting for all_gather of layer 2 on group param;"},
    {"reduce", 2, "1,2,1,1", "reduce layer 1", "step 2, backward layer 1",
     "step 2, backward layer 1; pending: reduce layer 1, reduce_scatter on group param;"},
    {"tp", 2, "1,1,2,1", "feed-forward", "step 2, forward layer 0",
     "step 2, forward layer 0, feed-forward; pending: all_reduce on group tp;"},
    {"checkpoint", 2, "1,1,1,2", "saving", "step 2, saving", "step 2, saving;"},
};

std::ostream& operator<<(std::ostream& out, const StuckCase& c) {
  return out << c.place;
}

ProgramResult run_scenario(const StuckCase& c, int signal, const std::vector<std::string>& flags) {
  std::vector<std::string> command{"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to",
                                   "none"};
  command.insert(command.end(), flags.begin(), flags.end());
  const TemporaryDirectory saves;
  for (const std::string& word :
       {std::string("-n"), std::to_string(c.ranks), std::string(RT_STUCK_RANK_SCENARIOS), c.mesh,
        c.sp_type, std::to_string(signal), c.place, saves.path().string()}) {
    command.push_back(word);
  }
  RunningProgram program(command);
  ProgramResult result = program.wait(kLimit);
  result.errors = fmt::format("\n{}", result.errors);
  return result;
}

void expect_told(const StuckCase& c, const ProgramResult& result) {
  EXPECT_NE(result.errors.find("\nringtrain: rank 1 has not reported for "), std::string::npos);
  EXPECT_NE(result.errors.find(fmt::format("(last: {}", c.told_as)), std::string::npos);
  EXPECT_NE(result.errors.find(fmt::format("\n  rank 0: {}", c.waiting)), std::string::npos);
}

class StuckRank : public ::testing::TestWithParam<StuckCase> {};

TEST_P(StuckRank, StoppedEndsTheJobWithATable) {
  const ProgramResult result = run_scenario(GetParam(), SIGSTOP, {});
  EXPECT_EQ(result.exit_code, 4);
  expect_told(GetParam(), result);
  if (HasFailure()) ADD_FAILURE() << result.errors;
}

// mpirun ends the job itself when a rank dies (LostRank in cli/stopping_test.cpp); told not to, it
// leaves that to the ranks that live, and returns 0.
TEST_P(StuckRank, KilledEndsTheJobWithATable) {
  const ProgramResult result = run_scenario(GetParam(), SIGKILL, {"--enable-recovery"});
  EXPECT_NE(result.exit_code, kTimedOut);
  expect_told(GetParam(), result);
  if (HasFailure()) ADD_FAILURE() << result.errors;
}

// Signal 0 only takes time, in every layer: the step lasts longer than timeout_s.
TEST(LongStep, IsNoHang) {
  const ProgramResult result = run_scenario({.ranks = 2, .mesh = "1,1,1,2", .place = "ward layer"},
                                            /*signal=*/0, {});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
}

INSTANTIATE_TEST_SUITE_P(Places, StuckRank, ::testing::ValuesIn(kCases),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace ringtrain
