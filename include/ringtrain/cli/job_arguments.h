#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ringtrain/config/resolve.h"

namespace ringtrain {

/// Reads the arguments of train, eval, verify, plan, selftest or bench step and resolves and
/// validates the configuration.
/// --help and --print_config are answered here, with `answer` set to the text for stdout; then
/// there is nothing to run.
struct JobArguments {
  std::optional<std::string> answer;
  ResolvedConfig resolved;
};

/// `arguments` are those after the subcommand. Errors: InvalidArgument, IoError (config/resolve.h,
/// config/validate.h).
JobArguments parse_job_arguments(Command command, const std::vector<std::string>& arguments);

/// Checks the configuration against the mesh that it makes of `world_size` ranks, before a device
/// is touched: heads and feed-forward by tp, and the batches that `command` reads.
/// Errors: InvalidArgument (parallel/mesh.h, config/validate.h).
void validate_on_mesh(Command command, const TrainConfig& config, int world_size);

/// "train", "eval", "verify", "plan", "selftest", "bench".
std::string_view name_of(Command command);

}  // namespace ringtrain
