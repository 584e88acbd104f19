// How jobs end, seen from outside: what mpirun prints and returns.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "ringtrain/comm/world.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

struct Outcome {
  int exit_code;
  double seconds;
  std::vector<std::string> lines;  // those that begin with "ringtrain:"
  std::string all;
};

Outcome run(const std::string& command) {
  const auto start = std::chrono::steady_clock::now();
  Outcome outcome{};
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  std::array<char, 4096> buffer{};
  while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
    std::string line(buffer.data());
    outcome.all += line;
    if (line.rfind("ringtrain:", 0) == 0) {
      line.pop_back();
      outcome.lines.push_back(line);
    }
  }
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return outcome;
}

Outcome run_scenario(const std::string& name, int ranks = 3) {
  return run(std::string("timeout 60 ") + RT_MPIRUN +
             " --allow-run-as-root --oversubscribe --bind-to none -n " + std::to_string(ranks) +
             " " + RT_JOB_SCENARIOS + " " + name);
}

using Lines = std::vector<std::string>;

TEST(Job, OrderlyEndsKeepTheirExitCode) {
  EXPECT_EQ(run_scenario("ok").exit_code, 0);
  EXPECT_EQ(run_scenario("ok", 1).exit_code, 0);
  EXPECT_EQ(run_scenario("code_75").exit_code, 75);
}

TEST(Job, AnErrorOfAllRanksIsPrintedOnce) {
  for (const int ranks : {1, 3}) {
    const Outcome outcome = run_scenario("same_error", ranks);
    EXPECT_EQ(outcome.lines, Lines{"ringtrain: mesh_dim 1,1,1,3 needs 3 ranks"});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.all.find("MPI_ABORT"), std::string::npos) << outcome.all;
  }
  const Outcome late = run_scenario("same_error_at_different_times");
  EXPECT_EQ(late.lines, Lines{"ringtrain: no file train.jsonl"});
  EXPECT_EQ(late.exit_code, 3);
}

TEST(Job, AnErrorOfOneRankNamesItAndEndsTheOthers) {
  const Outcome outcome = run_scenario("one_error");
  EXPECT_EQ(outcome.lines, Lines{"ringtrain: [rank 1] disk full"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_LT(outcome.seconds, 20);
}

TEST(Job, ErrorsOfSomeRanksArePrintedByTheLowest) {
  const Outcome outcome = run_scenario("two_errors", 4);
  EXPECT_EQ(outcome.lines,
            (Lines{"ringtrain: [rank 1] disk full", "ringtrain: [ranks 2, 3] peer lost"}));
  EXPECT_EQ(outcome.exit_code, 3);
}

TEST(Job, ForeignExceptionsBecomeErrors) {
  const Outcome outcome = run_scenario("out_of_memory");
  EXPECT_EQ(outcome.lines, Lines{"ringtrain: [rank 0] out of host memory"});
  EXPECT_EQ(outcome.exit_code, 4);
}

TEST(Job, Nests) {
  const Outcome outcome = run_scenario("nested");
  EXPECT_EQ(outcome.lines, Lines{"ringtrain: damaged checkpoint"});
  EXPECT_EQ(outcome.exit_code, 3);
}

TEST(Watchdog, NamesARankThatStandsStill) {
  const Outcome outcome = run_scenario("stuck");
  ASSERT_EQ(outcome.lines.size(), 1u) << outcome.all;
  EXPECT_EQ(outcome.lines[0],
            "ringtrain: rank 1 has made no progress for 2 s (last: step 12, backward layer 3)");
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_LT(outcome.seconds, 20);
}

TEST(Watchdog, NamesARankThatFellSilent) {
  const Outcome outcome = run_scenario("stopped");
  ASSERT_EQ(outcome.lines.size(), 1u) << outcome.all;
  EXPECT_EQ(outcome.lines[0].rfind("ringtrain: rank 1 has not reported for ", 0), 0u)
      << outcome.all;
  EXPECT_NE(outcome.lines[0].find("(last: step 12, backward layer 3)"), std::string::npos);
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_LT(outcome.seconds, 30);
}

TEST(Watchdog, AKilledRankEndsTheJob) {
  const Outcome outcome = run_scenario("killed");
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_LT(outcome.seconds, 20);
}

TEST(Watchdog, ShutdownWaitsForARankThatStillWorks) {
  const Outcome outcome = run_scenario("end_late", 8);
  EXPECT_EQ(outcome.lines, Lines{});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.all;
}

TEST(Watchdog, ShutdownEndsTheJobIfARankNeverComes) {
  const Outcome outcome = run_scenario("never_come");
  ASSERT_EQ(outcome.lines.size(), 1u) << outcome.all;
  EXPECT_EQ(outcome.lines[0],
            "ringtrain: rank 1 has made no progress for 1 s (last: step 7, last step)");
  EXPECT_EQ(outcome.exit_code, 4);
}

TEST(Launch, SingletonsAreRefused) {
  const Outcome slurm = run(std::string("SLURM_NTASKS=4 ") + RT_JOB_SCENARIOS + " ok");
  EXPECT_EQ(slurm.lines,
            Lines{"ringtrain: launched as 4 singletons (SLURM_NTASKS=4, but MPI sees 1 rank); use "
                  "mpirun or srun --mpi=pmix (mpirun -n 1 for one rank on purpose)"});
  EXPECT_EQ(slurm.exit_code, 2);
  EXPECT_EQ(run(std::string("PMI_SIZE=2 ") + RT_JOB_SCENARIOS + " ok").exit_code, 2);
  EXPECT_EQ(run(std::string("OMPI_COMM_WORLD_SIZE=2 ") + RT_JOB_SCENARIOS + " ok").exit_code, 2);
  const Outcome srun =
      run(std::string("SLURM_NTASKS=4 SLURM_PROCID=1 SLURM_JOBID=77 SLURM_STEPID=0 "
                      "SLURM_STEP_ID=0 SLURM_NNODES=1 ") +
          RT_JOB_SCENARIOS + " ok");
  EXPECT_EQ(srun.exit_code, 2) << srun.all;
  EXPECT_EQ(srun.lines.size(), 1u) << srun.all;
  // mpirun -n 1 inside a Slurm job is right.
  const Outcome one = run(std::string("SLURM_NTASKS=4 ") + RT_MPIRUN +
                          " --allow-run-as-root -n 1 " + RT_JOB_SCENARIOS + " ok");
  EXPECT_EQ(one.exit_code, 0) << one.all;
  EXPECT_EQ(run(std::string(RT_JOB_SCENARIOS) + " ok").exit_code, 0);
}

}  // namespace
}  // namespace ringtrain
