#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

/// Waiting on a stream for a time to come, by a kernel of one thread: beside kernels that fill all
/// processors it begins when one of their blocks ends. Errors: DeviceError if a launch is refused.
namespace ringtrain::kernels {

/// *start = now, in ns, modulo 2^32.
void launch_start_clock(std::uint32_t* start, cudaStream_t stream);
/// Work enqueued later starts `ns` after *start at the earliest; less than 4 seconds.
void launch_wait_for_clock(const std::uint32_t* start, std::uint32_t ns, cudaStream_t stream);

}  // namespace ringtrain::kernels
