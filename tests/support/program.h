#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "support/temporary_directory.h"

namespace ringtrain {

struct ProgramResult {
  int exit_code = -1;  ///< 128 + signal where a signal ended the process; kTimedOut
  std::string output;  ///< standard output
  std::string errors;  ///< standard error
  double seconds = 0;  ///< from start to end
};

constexpr int kTimedOut = -2;

/// A program that runs beside the test, its arguments as they are (no shell).
class RunningProgram {
 public:
  explicit RunningProgram(const std::vector<std::string>& command);
  ~RunningProgram();  ///< kills it, and what it has started
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;

  pid_t pid() const { return child_; }
  /// The processes that it has started, in order: the ranks of this host, for mpirun.
  std::vector<pid_t> children() const;
  void signal(int number);
  /// Its end; a program that takes longer is killed.
  ProgramResult wait(double timeout_s = 300);

 private:
  TemporaryDirectory directory_;
  std::chrono::steady_clock::time_point start_;
  pid_t child_;
};

/// Runs a program to its end.
ProgramResult run_process(const std::vector<std::string>& command);

/// The program ($RINGTRAIN_PROGRAM, by default the build's) as one process, and under mpirun on
/// `ranks` ranks with one thread each. Rank counts of 1 start without mpirun.
ProgramResult run_program(const std::vector<std::string>& arguments);
ProgramResult run_program_on_ranks(int ranks, const std::vector<std::string>& arguments);

/// What run_program_on_ranks starts.
std::vector<std::string> command_on_ranks(int ranks, const std::vector<std::string>& arguments);

}  // namespace ringtrain
