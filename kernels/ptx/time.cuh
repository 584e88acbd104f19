#pragma once

#include <cstdint>

namespace ringtrain::kernels::ptx {

/// %globaltimer: nanoseconds, the same clock for all processors of the device.
__device__ inline std::int64_t globaltimer() {
  std::int64_t nanoseconds;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(nanoseconds)::"memory");
  return nanoseconds;
}

/// %globaltimer_lo: its lower half, which returns to 0 every 4.3 seconds.
__device__ inline std::uint32_t globaltimer_lo() {
  std::uint32_t nanoseconds;
  asm volatile("mov.u32 %0, %globaltimer_lo;" : "=r"(nanoseconds)::"memory");
  return nanoseconds;
}

/// nanosleep.u32: rests for at most twice as long.
__device__ inline void nanosleep(std::uint32_t nanoseconds) {
  asm volatile("nanosleep.u32 %0;" ::"r"(nanoseconds) : "memory");
}

}  // namespace ringtrain::kernels::ptx
