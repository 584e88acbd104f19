#pragma once

#include <cstdint>

/// Global memory shared among blocks.
namespace ringtrain::kernels::ptx {

/// red.add.v2.f32: adds to 8 aligned bytes of global memory; each element in one piece.
__device__ inline void red_add_v2(float* to, float x0, float x1) {
  asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(x0), "f"(x1) : "memory");
}

/// ld.acquire.gpu: what the thread that stored the value did before its st_release is visible.
__device__ inline int ld_acquire(const int* from) {
  int value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

/// st.release.gpu.
__device__ inline void st_release(int* to, int value) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

/// ld.acquire.sys: the same of what streams, hosts and other devices store.
__device__ inline std::uint32_t ld_acquire_sys(const std::uint32_t* from) {
  std::uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

/// st.release.sys.
__device__ inline void st_release_sys(std::uint32_t* to, std::uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

}  // namespace ringtrain::kernels::ptx
