#pragma once

#include <cstdint>

/// Ordinary stores to shared memory by address.
namespace ringtrain::kernels::ptx {

/// st.shared.v2.f32: 8 aligned bytes.
__device__ inline void st_shared_v2(std::uint32_t to, float x0, float x1) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(x0), "f"(x1) : "memory");
}

}  // namespace ringtrain::kernels::ptx
