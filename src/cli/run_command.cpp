#include <fmt/format.h>

#include <exception>

#include "ringtrain/cli/commands.h"
#include "ringtrain/cli/job_arguments.h"
#include "ringtrain/comm/job.h"
#include "ringtrain/comm/world.h"
#include "ringtrain/core/error.h"

namespace ringtrain {

int run_command(Command command, const Invocation& invocation, JobBody body) {
  JobArguments job;
  std::exception_ptr unusable;
  try {
    job = parse_job_arguments(command, invocation.arguments);
  } catch (const Error&) {
    unusable = std::current_exception();
  }
  // A rank that left alone would take the launcher's whole job with it, before rank 0 has spoken.
  if (launched_ranks() == 1) {
    if (unusable) std::rethrow_exception(unusable);
    if (job.answer) {
      fmt::print("{}", *job.answer);
      return 0;
    }
  }
  const std::unique_ptr<World> world = initialise_world(invocation.argc, invocation.argv);
  return run_job(*world, [&] {
    if (unusable) std::rethrow_exception(unusable);
    if (job.answer) {
      if (world->rank() == 0) fmt::print("{}", *job.answer);
      return 0;
    }
    validate_on_mesh(command, job.resolved.config, world->size());
    return body(*world, job.resolved.config, job.resolved.report);
  });
}

}  // namespace ringtrain
