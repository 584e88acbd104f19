#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ringtrain/config/resolve.h"

namespace ringtrain {

class World;

/// What the program was called with, after the subcommand; argc and argv are main's, for MPI.
struct Invocation {
  int* argc;
  char*** argv;
  std::vector<std::string> arguments;
};

/// One job of the program. `run` returns the exit code and throws Error.
struct Subcommand {
  std::string_view name;
  std::string_view help;
  int (*run)(const Invocation& invocation);
};

/// A job of all ranks: each calls it with the same settings, and gets the exit code.
using JobBody = int (*)(World& world, const TrainConfig& config, const ConfigReport& report);

/// Reads the arguments, starts MPI and runs `body` on every rank under run_job (comm/job.h), which
/// reports errors. Arguments that cannot be used are found before MPI starts; where several ranks
/// were launched they report it together, so that none waits for another.
/// Errors: those of the arguments and of initialise_world.
int run_command(Command command, const Invocation& invocation, JobBody body);

/// `ringtrain <subcommand> ...`: finds the subcommand, answers --help and --version, reports errors
/// on stderr as "ringtrain: ..." and returns the exit code.
int run_program(int argc, char** argv);

}  // namespace ringtrain
