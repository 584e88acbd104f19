#pragma once

#include <cstdint>

/// Ordinary loads from and stores to shared memory by address.
namespace ringtrain::kernels::ptx {

/// st.shared.v2.f32: 8 aligned bytes.
__device__ inline void st_shared_v2(std::uint32_t to, float x0, float x1) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(x0), "f"(x1) : "memory");
}

/// ld.shared.v4.b32: 16 aligned bytes.
__device__ inline void ld_shared_v4(std::uint32_t (&words)[4], std::uint32_t from) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(from)
               : "memory");
}

/// st.shared.v4.b32: 16 aligned bytes.
__device__ inline void st_shared_v4(std::uint32_t to, const std::uint32_t (&words)[4]) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(words[0]), "r"(words[1]),
               "r"(words[2]), "r"(words[3])
               : "memory");
}

}  // namespace ringtrain::kernels::ptx
