#pragma once

#include <string>
#include <vector>

namespace ringtrain {

struct ProgramResult {
  int exit_code = -1;  ///< 128 + signal where a signal ended the process
  std::string output;  ///< standard output
  std::string errors;  ///< standard error
};

/// Runs a program to its end, its arguments as they are (no shell).
ProgramResult run_process(const std::vector<std::string>& command);

/// The program ($RINGTRAIN_PROGRAM, by default the build's) as one process, and under mpirun on
/// `ranks` ranks with one thread each. Rank counts of 1 start without mpirun.
ProgramResult run_program(const std::vector<std::string>& arguments);
ProgramResult run_program_on_ranks(int ranks, const std::vector<std::string>& arguments);

/// What run_program_on_ranks starts.
std::vector<std::string> command_on_ranks(int ranks, const std::vector<std::string>& arguments);

}  // namespace ringtrain
