#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

/// Copies within a device that take as long as a slower link would. Raw device pointers, checked by
/// the caller; everything is enqueued on `stream`. Errors: DeviceError if a launch is refused.
namespace ringtrain::kernels {

struct PacedCopyArgs {
  const void* from;
  void* to;
  std::int64_t bytes;    // a multiple of 16, as both addresses
  int processors;        // to occupy, with nothing beside
  double bytes_per_ns;   // of the link
  std::int64_t wait_ns;  // before the first byte
};
/// The copy by a kernel. It ends at bytes / bytes_per_ns + wait_ns after its start at the earliest.
void launch_paced_copy(const PacedCopyArgs& args, cudaStream_t stream);

/// *start = now, in ns.
void launch_start_clock(std::int64_t* start, cudaStream_t stream);
/// Work enqueued later starts `ns` after *start at the earliest. One warp waits for it; it finds
/// room beside a block that leaves 1,024 registers of its processor.
void launch_wait_for_clock(const std::int64_t* start, std::int64_t ns, cudaStream_t stream);

}  // namespace ringtrain::kernels
