#pragma once

namespace ringtrain::kernels::ptx {

/// ex2.approx.ftz.f32: 2^x with a relative error of 2^-22; 0 for -infinity.
__device__ inline float ex2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace ringtrain::kernels::ptx
