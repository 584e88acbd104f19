#include <fmt/format.h>

#include "ringtrain/comm/job.h"
#include "ringtrain/core/error.h"
#include "ringtrain/train/selftest_run.h"
#include "subcommands.h"

namespace ringtrain {
namespace {

int selftest(World& world, const TrainConfig& config, const ConfigReport&) {
  SelftestRun run(world, config);
  return run_job(world, [&] {
    const auto [passes, table] = run.run();
    if (world.rank() == 0) fmt::print("{}", table);
    return static_cast<int>(passes ? ExitCode::kOk : ExitCode::kCheckFailed);
  });
}

}  // namespace

int selftest_command(const Invocation& invocation) {
  return run_command(Command::kSelftest, invocation, selftest);
}

}  // namespace ringtrain
