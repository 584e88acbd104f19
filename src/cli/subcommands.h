#pragma once

#include <span>

#include "ringtrain/cli/commands.h"

namespace ringtrain {

/// All subcommands, in the order of --help.
std::span<const Subcommand> subcommands();

}  // namespace ringtrain
