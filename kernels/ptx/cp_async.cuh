#pragma once

#include <cstdint>

namespace ringtrain::kernels::ptx {

/// cp.async.cg.shared.global, 16 bytes: copies from global to shared memory in the background;
/// with `inside` false writes 16 zero bytes and reads nothing. Both addresses are aligned to 16.
__device__ inline void cp_async_16(void* shared, const void* global, bool inside) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = inside ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(global), "r"(bytes)
               : "memory");
}

/// cp.async.ca.shared.global, 8 bytes: the same in halves.
__device__ inline void cp_async_8(void* shared, const void* global, bool inside) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = inside ? 8 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;"
               :
               : "r"(address), "l"(global), "r"(bytes)
               : "memory");
}

/// cp.async.wait_all: this thread's copies have arrived; others see them after a barrier.
__device__ inline void cp_async_wait_all() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

}  // namespace ringtrain::kernels::ptx
