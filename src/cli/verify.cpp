#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "ringtrain/comm/job.h"
#include "ringtrain/comm/world.h"
#include "ringtrain/core/error.h"
#include "ringtrain/train/reference_check.h"
#include "subcommands.h"

namespace ringtrain {
namespace {

int report(const World& world, const std::vector<ReferenceError>& errors) {
  const auto failed = std::count_if(errors.begin(), errors.end(),
                                    [](const ReferenceError& error) { return !error.passes(); });
  if (world.rank() == 0) {
    fmt::print("{:<60} {:>12} {:>12} {:>10}\n", "quantity", "largest abs", "relative L2",
               "tolerance");
    for (const ReferenceError& error : errors) {
      fmt::print("{:<60} {:>12.3e} {:>12.3e} {:>10.1e}{}\n", error.name, error.largest_absolute,
                 error.relative, error.tolerance, error.passes() ? "" : "  FAILED");
    }
    fmt::print("{}: {} of {} quantities within tolerance\n", failed == 0 ? "PASS" : "FAIL",
               errors.size() - static_cast<std::size_t>(failed), errors.size());
  }
  return static_cast<int>(failed == 0 ? ExitCode::kOk : ExitCode::kCheckFailed);
}

int verify(World& world, const TrainConfig& config, const ConfigReport&) {
  if (config.verify.reference.empty()) {
    throw InvalidArgument("verify needs --reference=FILE, which scripts/make_reference.py writes");
  }
  ReferenceCheck check(world, config, config.verify.reference,
                       {config.verify.tolerance, config.verify.train_tolerance});
  return run_job(world, [&] { return report(world, check.run()); });
}

}  // namespace

int verify_command(const Invocation& invocation) {
  return run_command(Command::kVerify, invocation, verify);
}

}  // namespace ringtrain
