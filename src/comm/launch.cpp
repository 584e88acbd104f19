#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string_view>

#include "ringtrain/comm/world.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// What the launcher says about the job; an empty variable means that there is none.
struct Launch {
  const char* variable = "";
  int num_ranks = 1;
};

Launch launch() {
  for (const char* variable : std::array{"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"}) {
    if (const char* value = std::getenv(variable)) return {variable, std::atoi(value)};
  }
  return {};
}

}  // namespace

int launched_ranks() {
  return launch().num_ranks;
}

bool has_process_manager() {
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view entry(*variable);
    if (entry.starts_with("PMI") || entry.starts_with("OMPI_COMM_WORLD_SIZE=")) return true;
  }
  return false;
}

void check_launch(int world_size) {
  const auto [variable, started] = launch();
  if (started <= world_size) return;
  throw InvalidArgument(
      fmt::format("launched as {} singletons ({}={}, but MPI sees {} rank{}); use mpirun or "
                  "srun --mpi=pmix (mpirun -n 1 for one rank on purpose)",
                  started, variable, started, world_size, world_size == 1 ? "" : "s"));
}

}  // namespace ringtrain
