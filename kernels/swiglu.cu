// SwiGLU: one thread per kPack neighbouring columns, blocks over (row, column block).
// Memory-bound.
#include "kernels/tile/numeric.cuh"
#include "kernels/tile/swiglu.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/swiglu.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 128;  // narrow blocks leave few threads idle at the end of a row

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads) swiglu_kernel(const __grid_constant__ SwigluArgs args) {
  using P = Pack<T, kPack>;
  const std::int64_t column = (std::int64_t{blockIdx.y} * kThreads + threadIdx.x) * kPack;
  if (column >= args.width) return;
  const std::int64_t row = blockIdx.x;
  const T* in = static_cast<const T*>(args.gate_up) + row * 2 * args.width + column;
  const P gate = *reinterpret_cast<const P*>(in);
  const P up = *reinterpret_cast<const P*>(in + args.width);
  P out;
#pragma unroll
  for (int e = 0; e < kPack; ++e) {
    out.at[e] = from_float<T>(swiglu<T>(to_float(gate.at[e]), to_float(up.at[e])));
  }
  *reinterpret_cast<P*>(static_cast<T*>(args.out) + row * args.width + column) = out;
}

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    swiglu_backward_kernel(const __grid_constant__ SwigluBackwardArgs args) {
  using P = Pack<T, kPack>;
  const std::int64_t column = (std::int64_t{blockIdx.y} * kThreads + threadIdx.x) * kPack;
  if (column >= args.width) return;
  const std::int64_t row = blockIdx.x;
  const std::int64_t at = row * 2 * args.width + column;
  const T* in = static_cast<const T*>(args.gate_up) + at;
  const P gate = *reinterpret_cast<const P*>(in);
  const P up = *reinterpret_cast<const P*>(in + args.width);
  const P dout =
      *reinterpret_cast<const P*>(static_cast<const T*>(args.dout) + row * args.width + column);
  P dgate;
  P dup;
#pragma unroll
  for (int e = 0; e < kPack; ++e) {
    const SwigluGradient gradient =
        swiglu_gradient<T>(to_float(gate.at[e]), to_float(up.at[e]), to_float(dout.at[e]));
    dgate.at[e] = from_float<T>(gradient.gate);
    dup.at[e] = from_float<T>(gradient.up);
  }
  T* out = static_cast<T*>(args.dgate_up) + at;
  *reinterpret_cast<P*>(out) = dgate;
  *reinterpret_cast<P*>(out + args.width) = dup;
}

dim3 grid_for(std::int64_t rows, std::int64_t width, int pack) {
  const std::int64_t columns = std::int64_t{kThreads} * pack;
  return {static_cast<unsigned>(rows), static_cast<unsigned>((width + columns - 1) / columns)};
}

}  // namespace

void launch_swiglu(const SwigluArgs& args, cudaStream_t stream) {
  if (args.rows == 0 || args.width == 0) return;
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    with_widest_pack<T>(args.width, {args.gate_up, args.out}, [&](auto pack) {
      swiglu_kernel<T, pack><<<grid_for(args.rows, args.width, pack), kThreads, 0, stream>>>(args);
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_swiglu_backward(const SwigluBackwardArgs& args, cudaStream_t stream) {
  if (args.rows == 0 || args.width == 0) return;
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    with_widest_pack<T>(args.width, {args.gate_up, args.dout, args.dgate_up}, [&](auto pack) {
      swiglu_backward_kernel<T, pack>
          <<<grid_for(args.rows, args.width, pack), kThreads, 0, stream>>>(args);
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
