// How jobs end, seen from outside: what mpirun prints and returns.
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "support/program.h"

namespace ringtrain {
namespace {

ProgramResult run_scenario(const std::string& name, int ranks = 3,
                           const std::vector<std::string>& mpirun_options = {}) {
  std::vector<std::string> command{
      RT_MPIRUN, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none",
      "-n",      std::to_string(ranks)};
  command.insert(command.end(), mpirun_options.begin(), mpirun_options.end());
  command.insert(command.end(), {RT_JOB_SCENARIOS, name});
  return RunningProgram(command).wait(/*timeout_s=*/60);
}

/// What the program writes when it is started without mpirun. `environment`: NAME=VALUE.
ProgramResult run_alone(std::vector<std::string> environment) {
  environment.insert(environment.begin(), "env");
  environment.insert(environment.end(), {RT_JOB_SCENARIOS, "ok"});
  return run_process(environment);
}

using Lines = std::vector<std::string>;

/// What ringtrain itself says.
Lines own_lines(const ProgramResult& result) {
  Lines lines;
  std::istringstream text(result.errors);
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("ringtrain:")) lines.push_back(line);
  }
  return lines;
}

TEST(Job, OrderlyEndsKeepTheirExitCode) {
  EXPECT_EQ(run_scenario("ok").exit_code, 0);
  EXPECT_EQ(run_scenario("ok", 1).exit_code, 0);
  EXPECT_EQ(run_scenario("code_75").exit_code, 75);
}

TEST(Job, AnErrorOfAllRanksIsPrintedOnce) {
  for (const int ranks : {1, 3}) {
    const ProgramResult outcome = run_scenario("same_error", ranks);
    EXPECT_EQ(own_lines(outcome), Lines{"ringtrain: mesh_dim 1,1,1,3 needs 3 ranks"});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.errors.find("MPI_ABORT"), std::string::npos) << outcome.errors;
  }
  const ProgramResult late = run_scenario("same_error_at_different_times");
  EXPECT_EQ(own_lines(late), Lines{"ringtrain: no file train.jsonl"});
  EXPECT_EQ(late.exit_code, 3);
}

TEST(Job, AnErrorOfOneRankNamesItAndEndsTheOthers) {
  const ProgramResult outcome = run_scenario("one_error");
  EXPECT_EQ(own_lines(outcome), Lines{"ringtrain: [rank 1] disk full"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_LT(outcome.seconds, 20);
}

// mpirun as it is told not to watch the ranks, and where a script that outlives the rank is what it
// watches.
TEST(Job, AnErrorOfOneRankEndsTheOthersInEveryLaunch) {
  using Strings = std::vector<std::string>;
  for (const Strings& options : {Strings{"--mca", "orte_abort_on_non_zero_status", "0"},
                                 Strings{"sh", "-c", "\"$0\" \"$@\"; sleep 30"}}) {
    const ProgramResult outcome = run_scenario("one_error", 3, options);
    EXPECT_EQ(own_lines(outcome), Lines{"ringtrain: [rank 1] disk full"});
    EXPECT_NE(outcome.exit_code, kTimedOut);
    EXPECT_LT(outcome.seconds, 20);
  }
}

TEST(Job, ErrorsOfSomeRanksArePrintedByTheLowest) {
  const ProgramResult outcome = run_scenario("two_errors", 4);
  EXPECT_EQ(own_lines(outcome),
            (Lines{"ringtrain: [rank 1] disk full", "ringtrain: [ranks 2, 3] peer lost"}));
  EXPECT_EQ(outcome.exit_code, 3);
}

TEST(Job, ForeignExceptionsBecomeErrors) {
  const ProgramResult outcome = run_scenario("out_of_memory");
  EXPECT_EQ(own_lines(outcome), Lines{"ringtrain: [rank 0] out of host memory"});
  EXPECT_EQ(outcome.exit_code, 4);
}

TEST(Job, Nests) {
  const ProgramResult outcome = run_scenario("nested");
  EXPECT_EQ(own_lines(outcome), Lines{"ringtrain: damaged checkpoint"});
  EXPECT_EQ(outcome.exit_code, 3);
}

TEST(Watchdog, NamesARankThatStandsStill) {
  const ProgramResult outcome = run_scenario("stuck");
  ASSERT_EQ(own_lines(outcome).size(), 1u) << outcome.errors;
  EXPECT_EQ(own_lines(outcome)[0],
            "ringtrain: rank 1 has made no progress for 2 s (last: step 12, backward layer 3)");
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_LT(outcome.seconds, 20);
}

TEST(Watchdog, NamesARankThatFellSilent) {
  const ProgramResult outcome = run_scenario("stopped");
  ASSERT_EQ(own_lines(outcome).size(), 1u) << outcome.errors;
  EXPECT_EQ(own_lines(outcome)[0].rfind("ringtrain: rank 1 has not reported for ", 0), 0u)
      << outcome.errors;
  EXPECT_NE(own_lines(outcome)[0].find("(last: step 12, backward layer 3)"), std::string::npos);
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_LT(outcome.seconds, 30);
}

TEST(Watchdog, AKilledRankEndsTheJob) {
  const ProgramResult outcome = run_scenario("killed");
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_LT(outcome.seconds, 20);
}

TEST(Watchdog, ShutdownWaitsForARankThatStillWorks) {
  const ProgramResult outcome = run_scenario("end_late", 8);
  EXPECT_EQ(own_lines(outcome), Lines{});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
}

TEST(Watchdog, ShutdownEndsTheJobIfARankNeverComes) {
  const ProgramResult outcome = run_scenario("never_come");
  ASSERT_EQ(own_lines(outcome).size(), 1u) << outcome.errors;
  EXPECT_EQ(own_lines(outcome)[0],
            "ringtrain: rank 1 has made no progress for 1 s (last: step 7, last step)");
  EXPECT_EQ(outcome.exit_code, 4);
}

TEST(Launch, SingletonsAreRefused) {
  const ProgramResult slurm = run_alone({"SLURM_NTASKS=4"});
  EXPECT_EQ(own_lines(slurm),
            Lines{"ringtrain: launched as 4 singletons (SLURM_NTASKS=4, but MPI sees 1 rank); use "
                  "mpirun or srun --mpi=pmix (mpirun -n 1 for one rank on purpose)"});
  EXPECT_EQ(slurm.exit_code, 2);
  EXPECT_EQ(run_alone({"PMI_SIZE=2"}).exit_code, 2);
  EXPECT_EQ(run_alone({"OMPI_COMM_WORLD_SIZE=2"}).exit_code, 2);
  const ProgramResult srun = run_alone({"SLURM_NTASKS=4", "SLURM_PROCID=1", "SLURM_JOBID=77",
                                        "SLURM_STEPID=0", "SLURM_STEP_ID=0", "SLURM_NNODES=1"});
  EXPECT_EQ(srun.exit_code, 2) << srun.errors;
  EXPECT_EQ(own_lines(srun).size(), 1u) << srun.errors;
  // mpirun -n 1 inside a Slurm job is right.
  const ProgramResult one = run_process({"env", "SLURM_NTASKS=4", RT_MPIRUN, "--allow-run-as-root",
                                         "-n", "1", RT_JOB_SCENARIOS, "ok"});
  EXPECT_EQ(one.exit_code, 0) << one.errors;
  EXPECT_EQ(run_alone({}).exit_code, 0);
}

}  // namespace
}  // namespace ringtrain
