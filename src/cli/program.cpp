#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <span>

#include "ringtrain/cli/commands.h"
#include "ringtrain/config/suggestion.h"
#include "ringtrain/core/error.h"
#include "subcommands.h"

namespace ringtrain {
namespace {

std::string program_help() {
  std::string text =
      "ringtrain: trains LLaMA models on sequences that no single device could hold.\n\n"
      "Usage: [mpirun -n RANKS] ringtrain SUBCOMMAND [--name=value ...]\n\nSubcommands:\n";
  for (const Subcommand& subcommand : subcommands()) {
    text += fmt::format("  {:<10} {}\n", subcommand.name, subcommand.help);
  }
  return text +
         "\n`ringtrain SUBCOMMAND --help` lists its options; `ringtrain --version` shows the "
         "version.\n";
}

const Subcommand& find_subcommand(const std::string& name) {
  std::vector<std::string> names;
  for (const Subcommand& subcommand : subcommands()) {
    if (subcommand.name == name) return subcommand;
    names.emplace_back(subcommand.name);
  }
  throw InvalidArgument(fmt::format("'{}' is not a subcommand; there are {}{}", name,
                                    fmt::join(names, ", "), did_you_mean(name, names)));
}

int dispatch(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  if (arguments.empty()) {
    throw InvalidArgument("a subcommand is missing; `ringtrain --help` lists them");
  }
  const std::string& first = arguments.front();
  if (first == "--help" || first == "-h" || first == "help") {
    fmt::print("{}", program_help());
    return 0;
  }
  if (first == "--version") {
    fmt::print("ringtrain {}\n", RT_VERSION);
    return 0;
  }
  const Subcommand& subcommand = find_subcommand(first);
  return subcommand.run({&argc, &argv, {arguments.begin() + 1, arguments.end()}});
}

/// Information went to stdout; a full disk or a closed pipe must not look like success.
int flushed(int exit_code) {
  if (std::fflush(stdout) == 0 || exit_code != 0) return exit_code;
  throw IoError("cannot write to standard output");
}

}  // namespace

int run_program(int argc, char** argv) {
  std::signal(SIGXFSZ,
              SIG_IGN);  // a file beyond `ulimit -f` is an error of write, as a full disk is
  try {
    return flushed(dispatch(argc, argv));
  } catch (const Error& error) {
    fmt::print(stderr, "ringtrain: {}\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    fmt::print(stderr, "ringtrain: unexpected error: {}\n", error.what());
    return static_cast<int>(ExitCode::kDevice);
  }
}

}  // namespace ringtrain
