#pragma once

#include <mpi.h>

#include <cstdint>
#include <string_view>

namespace ringtrain {

/// One MPI call moves at most this many bytes, because MPI's counts are ints.
inline constexpr std::int64_t kMaxPieceBytes = std::int64_t{1} << 30;

/// Errors: DeviceError with MPI's text, operation, rank and group if `status` is not MPI_SUCCESS.
void check_mpi(int status, std::string_view operation, int rank, std::string_view group);

/// True between MPI_Init and MPI_Finalize.
bool mpi_is_running();

/// Flushes the output and ends every rank with `exit_code`; this one also if MPI hangs meanwhile.
[[noreturn]] void abort_world(int exit_code) noexcept;

/// Calls piece(begin, count) for consecutive pieces of at most `limit` that cover [0, total).
template <typename Piece>
void for_each_piece(std::int64_t total, std::int64_t limit, Piece&& piece) {
  for (std::int64_t begin = 0; begin < total; begin += limit) {
    piece(begin, total - begin < limit ? total - begin : limit);
  }
}

}  // namespace ringtrain
