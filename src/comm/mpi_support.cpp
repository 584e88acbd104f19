#include "mpi_support.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// mpirun ends the job when a process that it has started ends, with that one's exit code, unless
/// told otherwise. Asked by MPI_Abort while another rank is stopped, that of Open MPI 4.1.4 crashed
/// or hung itself in PMIx_server_finalize, on a busy machine one time in 8.
bool mpirun_watches_this_rank() {
  for (const char* otherwise :
       {"OMPI_MCA_orte_enable_recovery", "OMPI_MCA_orte_abort_on_non_zero_status"}) {
    if (std::getenv(otherwise) != nullptr) return false;
  }
  std::ifstream file(fmt::format("/proc/{}/comm", getppid()));
  std::string parent;
  std::getline(file, parent);
  return parent == "mpirun" || parent == "mpiexec" || parent == "orterun" || parent == "orted";
}

}  // namespace

void check_mpi(int status, std::string_view operation, int rank, std::string_view group) {
  if (status == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(status, text.data(), &length);
  throw DeviceError(fmt::format("{} failed on rank {} of group {}: {}", operation, rank, group,
                                std::string_view(text.data(), static_cast<std::size_t>(length))));
}

bool mpi_is_running() {
  int initialised = 0;
  int finalised = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalised);
  return initialised != 0 && finalised == 0;
}

void abort_world(int exit_code) noexcept {
  std::cout.flush();
  std::cerr.flush();
  std::fflush(nullptr);
  int size = 1;
  if (mpi_is_running()) MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size > 1 && !mpirun_watches_this_rank()) {
    try {
      std::thread([exit_code] {
        std::this_thread::sleep_for(std::chrono::seconds(10));
        std::_Exit(exit_code);
      }).detach();
    } catch (const std::exception&) {
      // No thread to be had: MPI_Abort has to do without the guard.
    }
    MPI_Abort(MPI_COMM_WORLD, exit_code);
  }
  std::_Exit(exit_code);
}

}  // namespace ringtrain
