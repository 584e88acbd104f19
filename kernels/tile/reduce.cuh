#pragma once

/// Reductions in a fixed order: a butterfly inside the warp, then the warps in turn.
namespace ringtrain::kernels {

inline constexpr int kWarpSize = 32;

struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

/// Every lane returns combine(...) over the `kWidth` lanes of its group.
template <int kWidth = kWarpSize, typename T, typename Combine>
__device__ T warp_reduce(T value, Combine combine) {
#pragma unroll
  for (int offset = kWidth / 2; offset > 0; offset /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

/// Every thread of the block returns the reduction; all threads must call. `scratch` holds one
/// T per warp and may be reused at once by a later call.
template <int kThreads, typename T, typename Combine>
__device__ T block_reduce(T value, T* scratch, Combine combine) {
  static_assert(kThreads % kWarpSize == 0);
  value = warp_reduce(value, combine);
  if (threadIdx.x % kWarpSize == 0) scratch[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  T total = scratch[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / kWarpSize; ++warp) total = combine(total, scratch[warp]);
  __syncthreads();
  return total;
}

}  // namespace ringtrain::kernels
