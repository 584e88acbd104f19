#pragma once

#include <cstdint>
#include <string>

#include "kernels/tile/reduce.cuh"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention.h"

/// Which keys the rows of a query tile see, decided for whole key tiles where possible.
namespace ringtrain::kernels {

inline constexpr int kMaxHeadDim = 256;

/// Errors: InvalidArgument for a head_dim no kernel is compiled for.
inline void check_head_dim(int head_dim) {
  if (head_dim > kMaxHeadDim) {
    throw InvalidArgument("attention: head_dim must be at most 256 on a GPU, got " +
                          std::to_string(head_dim));
  }
}

/// Positions of the rows of one query tile, in shared memory. Rows past the end take the
/// position of the last row, so that they change nothing for the tile.
template <int kRows>
struct QueryRows {
  std::int32_t position[kRows];
  std::int32_t lowest[kRows];     // lowest visible key position
  std::int32_t lowest_bounds[2];  // smallest and largest of `lowest`

  /// All threads call; ends with a barrier.
  __device__ void load(const AttentionShape& shape, std::int64_t batch, int first) {
    static_assert(kRows % kWarpSize == 0);
    const int count = min(kRows, shape.query_tokens - first);
    for (int row = threadIdx.x; row < kRows; row += blockDim.x) {
      const int at = first + min(row, count - 1);
      position[row] = shape.query_positions[at];
      lowest[row] = shape.lowest_visible != nullptr
                        ? shape.lowest_visible[batch * shape.query_tokens + at]
                        : INT32_MIN;
    }
    __syncthreads();
    if (threadIdx.x < kWarpSize) {
      std::int32_t low = lowest[threadIdx.x];
      std::int32_t high = low;
      for (int row = threadIdx.x + kWarpSize; row < kRows; row += kWarpSize) {
        low = min(low, lowest[row]);
        high = max(high, lowest[row]);
      }
      low = __reduce_min_sync(0xffffffffu, low);
      high = __reduce_max_sync(0xffffffffu, high);
      if (threadIdx.x == 0) {
        lowest_bounds[0] = low;
        lowest_bounds[1] = high;
      }
    }
    __syncthreads();
  }

  __device__ bool sees(int row, std::int32_t key_position, bool causal) const {
    return key_position >= lowest[row] && (!causal || key_position <= position[row]);
  }
  /// No row sees a key at or after this position.
  __device__ bool ends_before(std::int32_t key_position, bool causal) const {
    return causal && key_position > position[kRows - 1];
  }
  /// No row sees a key at or before this position.
  __device__ bool begins_after(std::int32_t key_position) const {
    return key_position < lowest_bounds[0];
  }
  /// Every row sees every key of [first, last].
  __device__ bool sees_all(std::int32_t first, std::int32_t last, bool causal) const {
    return first >= lowest_bounds[1] && (!causal || last <= position[0]);
  }
};

}  // namespace ringtrain::kernels
