// Sums of squares per tensor, and the clipping factor made of them. Two stages: `slices` blocks
// share each range and leave one double each; one block per tensor adds what belongs to it, range
// after range. Memory-bound in the first stage.
#include "kernels/tile/reduce.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/gradient_norm.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    sum_of_squares_kernel(const __grid_constant__ SumOfSquaresArgs args) {
  __shared__ double scratch[kThreads / kWarpSize];
  const std::int64_t range = blockIdx.x;
  const std::int64_t* r = args.ranges + 4 * range;
  const std::int64_t begin = r[0];
  const std::int64_t length = r[3] != 0 ? r[1] - begin : 0;
  const std::int64_t slice = (length + args.slices - 1) / args.slices;
  const std::int64_t from = begin + blockIdx.y * slice;
  const std::int64_t to = min(from + slice, begin + length);
  double sum = 0.0;
#pragma unroll 4
  for (std::int64_t i = from + threadIdx.x; i < to; i += kThreads) {
    const double x = args.x[i];
    sum += x * x;
  }
  sum = block_reduce<kThreads>(sum, scratch, Sum{});
  if (threadIdx.x == 0) args.partials[range * args.slices + blockIdx.y] = sum;
}

__global__ void __launch_bounds__(kThreads)
    sum_of_ranges_kernel(const __grid_constant__ SumOfSquaresArgs args) {
  __shared__ double scratch[kThreads / kWarpSize];
  const std::int64_t tensor = blockIdx.x;
  double sum = 0.0;
  for (std::int64_t range = 0; range < args.num_ranges; ++range) {
    if (args.ranges[4 * range + 2] != tensor) continue;
    for (int i = threadIdx.x; i < args.slices; i += kThreads) {
      sum += args.partials[range * args.slices + i];
    }
  }
  sum = block_reduce<kThreads>(sum, scratch, Sum{});
  if (threadIdx.x == 0) args.sums[tensor] += sum;
}

__global__ void __launch_bounds__(kThreads)
    clip_scale_kernel(const __grid_constant__ ClipScaleArgs args) {
  __shared__ double scratch[kThreads / kWarpSize];
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < args.num_tensors; i += kThreads) sum += args.sums[i];
  sum = block_reduce<kThreads>(sum, scratch, Sum{});
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum) * args.scale;
  // Written so that a NaN norm gives a NaN factor.
  const double clip = norm <= args.max_norm ? 1.0 : args.max_norm / norm;
  args.out[0] = static_cast<float>(norm);
  args.out[1] = static_cast<float>(args.scale * clip);
}

}  // namespace

void launch_sum_of_squares(const SumOfSquaresArgs& args, cudaStream_t stream) {
  if (args.num_ranges == 0 || args.num_tensors == 0) return;
  const dim3 grid(static_cast<unsigned>(args.num_ranges), static_cast<unsigned>(args.slices));
  sum_of_squares_kernel<<<grid, kThreads, 0, stream>>>(args);
  sum_of_ranges_kernel<<<static_cast<unsigned>(args.num_tensors), kThreads, 0, stream>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_clip_scale(const ClipScaleArgs& args, cudaStream_t stream) {
  clip_scale_kernel<<<1, kThreads, 0, stream>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
