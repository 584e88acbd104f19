#pragma once

#include <cstdint>

namespace ringtrain::kernels::ptx {

/// ex2.approx.ftz.f32: 2^x to 2 ulp; 2^-inf = 0.
__device__ inline float ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// rcp.approx.ftz.f32: 1 / x to 1 ulp; 1 / inf = 0.
__device__ inline float rcp(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// cvt.rn.bf16x2.f32: two floats to bf16, to nearest even; `low` in the low half.
__device__ inline std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

}  // namespace ringtrain::kernels::ptx
