#pragma once

#include <span>

#include "ringtrain/cli/commands.h"

namespace ringtrain {

int train_command(const Invocation& invocation);
int eval_command(const Invocation& invocation);
int verify_command(const Invocation& invocation);
int plan_command(const Invocation& invocation);
int selftest_command(const Invocation& invocation);
int tokenize_command(const Invocation& invocation);
int bench_command(const Invocation& invocation);

/// All subcommands, in the order of --help.
std::span<const Subcommand> subcommands();

}  // namespace ringtrain
