#pragma once

#include <cmath>

#include "kernels/ptx/math.cuh"

/// SwiGLU in fp32 of elements of type T. Every kernel that computes it calls these, and they leave
/// the compiler no choice of order or fusion: equal inputs give equal bits, wherever.
namespace ringtrain::kernels {

/// 1 / (1 + e^-x). Where T is bf16 to 2^-19 for |x| < 32, far below its rounding.
template <typename T>
__device__ inline float sigmoid(float x) {
  if constexpr (sizeof(T) == 2) {
    constexpr float kMinusLog2E = -1.4426950408889634f;
    return ptx::rcp(1.0f + ptx::ex2(__fmul_rn(x, kMinusLog2E)));
  } else {
    return 1.0f / (1.0f + expf(-x));
  }
}

/// silu(gate) up.
template <typename T>
__device__ inline float swiglu(float gate, float up) {
  return __fmul_rn(__fmul_rn(gate, sigmoid<T>(gate)), up);
}

struct SwigluGradient {
  float gate, up;
  float activation;  // silu(gate) up, as of swiglu
};
/// silu'(g) = s (1 + g (1 - s)) with s = sigmoid(g).
template <typename T>
__device__ inline SwigluGradient swiglu_gradient(float gate, float up, float dout) {
  const float s = sigmoid<T>(gate);
  const float silu = __fmul_rn(gate, s);
  const float slope = __fmul_rn(s, fmaf(gate, 1.0f - s, 1.0f));
  return {.gate = __fmul_rn(__fmul_rn(dout, up), slope),
          .up = __fmul_rn(dout, silu),
          .activation = __fmul_rn(silu, up)};
}

}  // namespace ringtrain::kernels
