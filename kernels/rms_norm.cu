// RMS normalisation. Forward: one block per row. Backward: a fixed grid of blocks walks the rows;
// each block sums its share of dweight in fp32 over its rows in order, and a second kernel adds
// the blocks' sums in order, so the result does not depend on scheduling.
// Memory-bound: x is read twice (the second time from L1/L2), everything else once.
#include <algorithm>

#include "kernels/tile/numeric.cuh"
#include "kernels/tile/reduce.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/rms_norm.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kColumnsPerThread = 4;  // dweight sums held in registers by the backward pass

/// What multiplies the weight: cast to the compute type, as LLaMA does.
template <typename T>
__device__ float normalised(T x, float rstd) {
  return to_float(from_float<T>(to_float(x) * rstd));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(const __grid_constant__ RmsNormArgs args) {
  __shared__ float scratch[kThreads / kWarpSize];
  const std::int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(args.x) + row * args.width;
  const T* weight = static_cast<const T*>(args.weight);
  T* out = static_cast<T*>(args.out) + row * args.width;
  float squares = 0.0f;
  for (std::int64_t i = threadIdx.x; i < args.width; i += kThreads) {
    const float value = to_float(x[i]);
    squares += value * value;
  }
  squares = block_reduce<kThreads>(squares, scratch, Sum{});
  const float rstd = 1.0f / sqrtf(squares / static_cast<float>(args.width) + args.eps);
  if (threadIdx.x == 0) args.rstd[row] = rstd;
  for (std::int64_t i = threadIdx.x; i < args.width; i += kThreads) {
    out[i] = from_float<T>(normalised(x[i], rstd) * to_float(weight[i]));
  }
}

// dx = rstd (w dy - xhat mean(w dy xhat)) with xhat = x rstd.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_dx_kernel(const __grid_constant__ RmsNormBackwardArgs args) {
  __shared__ float scratch[kThreads / kWarpSize];
  const std::int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(args.x) + row * args.width;
  const T* dout = static_cast<const T*>(args.dout) + row * args.width;
  const T* weight = static_cast<const T*>(args.weight);
  T* dx = static_cast<T*>(args.dx) + row * args.width;
  const float rstd = args.rstd[row];
  float dot = 0.0f;
  for (std::int64_t i = threadIdx.x; i < args.width; i += kThreads) {
    dot += to_float(dout[i]) * to_float(weight[i]) * to_float(x[i]);
  }
  dot = block_reduce<kThreads>(dot, scratch, Sum{});
  const float mean = dot * rstd / static_cast<float>(args.width);
  for (std::int64_t i = threadIdx.x; i < args.width; i += kThreads) {
    const float gradient =
        rstd * (to_float(dout[i]) * to_float(weight[i]) - to_float(x[i]) * rstd * mean);
    dx[i] = from_float<T>(to_float(dx[i]) + gradient);
  }
}

// Block (c, b): columns from c kThreads kColumnsPerThread on, rows b, b + gridDim.y, ...
template <typename T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_dweight_kernel(const __grid_constant__ RmsNormBackwardArgs args) {
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads * kColumnsPerThread + threadIdx.x;
  float sums[kColumnsPerThread] = {};
  for (std::int64_t row = blockIdx.y; row < args.rows; row += gridDim.y) {
    const T* x = static_cast<const T*>(args.x) + row * args.width;
    const T* dout = static_cast<const T*>(args.dout) + row * args.width;
    const float rstd = args.rstd[row];
#pragma unroll
    for (int c = 0; c < kColumnsPerThread; ++c) {
      const std::int64_t i = first + c * kThreads;
      if (i < args.width) sums[c] += to_float(dout[i]) * normalised(x[i], rstd);
    }
  }
#pragma unroll
  for (int c = 0; c < kColumnsPerThread; ++c) {
    const std::int64_t i = first + c * kThreads;
    if (i < args.width) args.partials[std::int64_t{blockIdx.y} * args.width + i] = sums[c];
  }
}

__global__ void __launch_bounds__(kThreads)
    rms_norm_dweight_sum_kernel(const float* partials, float* dweight, int partial_rows,
                                std::int64_t width) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= width) return;
  double sum = 0.0;
  for (int row = 0; row < partial_rows; ++row) sum += double{partials[row * width + i]};
  dweight[i] += static_cast<float>(sum);
}

}  // namespace

void launch_rms_norm(const RmsNormArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return;
  with_compute_type(args.compute, [&](auto type) {
    rms_norm_kernel<decltype(type)>
        <<<static_cast<unsigned>(args.rows), kThreads, 0, stream>>>(args);
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_rms_norm_backward(const RmsNormBackwardArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return;
  // 128 sums keep every SM busy at usual widths and cost little to add up.
  const auto partial_rows =
      static_cast<unsigned>(std::min({args.rows, args.partial_rows, std::int64_t{128}}));
  constexpr int kColumns = kThreads * kColumnsPerThread;
  const auto column_blocks = static_cast<unsigned>((args.width + kColumns - 1) / kColumns);
  const auto sum_blocks = static_cast<unsigned>((args.width + kThreads - 1) / kThreads);
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    rms_norm_dweight_kernel<T><<<dim3(column_blocks, partial_rows), kThreads, 0, stream>>>(args);
    // Last: dx may be the memory of dout.
    rms_norm_dx_kernel<T><<<static_cast<unsigned>(args.rows), kThreads, 0, stream>>>(args);
  });
  rms_norm_dweight_sum_kernel<<<sum_blocks, kThreads, 0, stream>>>(
      args.partials, args.dweight, static_cast<int>(partial_rows), args.width);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
