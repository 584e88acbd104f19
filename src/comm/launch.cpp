#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <initializer_list>
#include <string_view>

#include "ringtrain/comm/world.h"
#include "ringtrain/core/error.h"

namespace ringtrain {

bool has_process_manager() {
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view entry(*variable);
    if (entry.starts_with("PMI") || entry.starts_with("OMPI_COMM_WORLD_SIZE=")) return true;
  }
  return false;
}

void check_launch(int world_size) {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"}) {
    const char* value = std::getenv(variable);
    if (value == nullptr) continue;
    const long started = std::strtol(value, nullptr, 10);
    if (started <= world_size) return;
    throw InvalidArgument(
        fmt::format("launched as {} singletons ({}={}, but MPI sees {} rank{}); use mpirun or "
                    "srun --mpi=pmix (mpirun -n 1 for one rank on purpose)",
                    started, variable, value, world_size, world_size == 1 ? "" : "s"));
  }
}

}  // namespace ringtrain
