#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>

/// Copies within a device that take as long as a slower link would. Raw device pointers, checked by
/// the caller; everything is enqueued on `stream`. Errors: DeviceError if a launch is refused.
namespace ringtrain::kernels {

struct PacedCopyArgs {
  struct Piece {
    const void* from;
    void* to;
    std::int64_t bytes;  // a multiple of 16, as both addresses
  };
  static constexpr int kMostPieces = 8;
  std::array<Piece, kMostPieces> pieces;
  int num_pieces;
  int processors;        // to occupy, with nothing beside
  double bytes_per_ns;   // of the link
  std::int64_t wait_ns;  // before the first byte
};
/// The copies by a kernel. It ends at wait_ns + bytes of all / bytes_per_ns after its start at the
/// earliest.
void launch_paced_copy(const PacedCopyArgs& args, cudaStream_t stream);

/// *start = now, in ns, modulo 2^32.
void launch_start_clock(std::uint32_t* start, cudaStream_t stream);
/// Work enqueued later starts `ns` after *start at the earliest; less than 4 seconds. One warp
/// waits for it; beside the Hopper attention kernels it finds room only when a block of theirs
/// ends.
void launch_wait_for_clock(const std::uint32_t* start, std::uint32_t ns, cudaStream_t stream);

}  // namespace ringtrain::kernels
