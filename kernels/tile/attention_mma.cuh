#pragma once

#include <cstdint>
#include <initializer_list>

#include "kernels/ptx/cp_async.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/tile/numeric.cuh"
#include "kernels/tile/reduce.cuh"
#include "ringtrain/kernels/attention.h"

/// bf16 tiles of rows in shared memory and products of them on the tensor cores (mma.sync).
///
/// A warp owns 16 rows of every product. Its accumulator is float acc[columns / 8][4]: lane t
/// holds rows t / 4 (elements 0, 1) and t / 4 + 8 (2, 3), columns 8 n + 2 (t % 4) and the next.
namespace ringtrain::kernels {

/// Elements that may be copied at a time from rows of this length at these addresses: 8, 4 or 1.
inline int vector_of(int head_dim, std::initializer_list<const void*> pointers) {
  std::uintptr_t bits = static_cast<std::uintptr_t>(head_dim) * sizeof(bf16);
  for (const void* pointer : pointers) bits |= reinterpret_cast<std::uintptr_t>(pointer);
  return bits % 16 == 0 ? 8 : bits % 8 == 0 ? 4 : 1;
}

/// Elements between rows of a tile: 16 bytes of padding put eight rows into different banks.
template <int kDim>
inline constexpr int kMmaStride = kDim + 8;
template <int kRows, int kDim>
inline constexpr int kMmaTile = kRows* kMmaStride<kDim>;

__device__ inline int warp_index() {
  return static_cast<int>(threadIdx.x) / kWarpSize;
}
__device__ inline int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarpSize;
}
/// First of the two rows, 8 apart, that this lane holds of its warp's 16.
__device__ inline int lane_row() {
  return lane_index() / 4;
}
/// First of the two neighbouring columns that this lane holds of every 8.
__device__ inline int lane_column() {
  return 2 * (lane_index() % 4);
}

/// Starts loading rows [first, first + kRows) of one head; rows from `rows` on and columns from
/// head_dim on become zero. `vector` elements (8, 4 or 1) are copied at a time. Complete after
/// ptx::cp_async_wait_all and a barrier.
template <int kRows, int kDim, int kThreads>
__device__ void load_rows_async(bf16* tile, const bf16* base, std::int64_t row_stride, int first,
                                int rows, int head_dim, int vector) {
  constexpr int kChunks = kDim / 8;
  for (int i = threadIdx.x; i < kRows * kChunks; i += kThreads) {
    const int row = i / kChunks;
    const int column = i % kChunks * 8;
    bf16* to = tile + row * kMmaStride<kDim> + column;
    const int left = first + row < rows ? head_dim - column : 0;  // elements to be had
    const bf16* from = base + (left > 0 ? (first + row) * row_stride + column : 0);
    if (vector == 8) {
      ptx::cp_async_16(to, from, left > 0);
    } else if (vector == 4) {
      ptx::cp_async_8(to, from, left > 0);
      ptx::cp_async_8(to + 4, left > 4 ? from + 4 : from, left > 4);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e) to[e] = e < left ? from[e] : bf16(0.0f);
    }
  }
}

/// acc = a b^T over kDim: a is the warp's 16 rows, b has 8 kTiles rows.
template <int kDim, int kTiles>
__device__ void multiply_rows(float (&acc)[kTiles][4], const bf16* a, const bf16* b) {
  static_assert(kTiles % 2 == 0 && kDim % 16 == 0);
  // Fully unrolled, the compiler loads so far ahead that the keys kernel spills at 128.
  constexpr int kUnroll = kDim == 128 ? 4 : kDim / 16;
  const int lane = lane_index();
  a += lane % 16 * kMmaStride<kDim> + lane / 16 * 8;
  b += (lane % 8 + lane / 16 * 8) * kMmaStride<kDim> + lane / 8 % 2 * 8;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) acc[n][e] = 0.0f;
  }
#pragma unroll kUnroll
  for (int k = 0; k < kDim; k += 16) {
    std::uint32_t left[4];
    ptx::ldmatrix_x4(left, a + k);
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      std::uint32_t right[4];
      ptx::ldmatrix_x4(right, b + n * 8 * kMmaStride<kDim> + k);
      ptx::mma_m16n8k16_bf16(acc[n], left, right[0], right[1]);
      ptx::mma_m16n8k16_bf16(acc[n + 1], left, right[2], right[3]);
    }
  }
}

/// acc += weights b: weights are an accumulator of 8 kInner columns, rounded to bf16 as they are
/// used; b has 8 kInner rows, of which the 8 kTiles columns from `b` on take part.
template <int kDim, int kInner, int kTiles>
__device__ void accumulate_rows(float (&acc)[kTiles][4], const float (&weights)[kInner][4],
                                const bf16* b) {
  static_assert(kTiles % 2 == 0 && kInner % 2 == 0);
  const int lane = lane_index();
  b += (lane % 8 + lane / 8 % 2 * 8) * kMmaStride<kDim> + lane / 16 * 8;
  const auto packed = [](float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  };
#pragma unroll
  for (int k = 0; k < kInner; k += 2) {
    const std::uint32_t left[4] = {
        packed(weights[k][0], weights[k][1]), packed(weights[k][2], weights[k][3]),
        packed(weights[k + 1][0], weights[k + 1][1]), packed(weights[k + 1][2], weights[k + 1][3])};
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      std::uint32_t right[4];
      ptx::ldmatrix_x4_trans(right, b + k * 8 * kMmaStride<kDim> + n * 8);
      ptx::mma_m16n8k16_bf16(acc[n], left, right[0], right[1]);
      ptx::mma_m16n8k16_bf16(acc[n + 1], left, right[2], right[3]);
    }
  }
}

/// Calls body(element offset inside the row, first value, second value, both inside) for the
/// lane's pairs of columns of one of its rows: half 0 is lane_row(), half 1 is 8 further.
template <int kTiles, typename Body>
__device__ void for_each_pair(float (&acc)[kTiles][4], int half, int head_dim, Body&& body) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const int column = 8 * n + lane_column();
    if (column < head_dim) {
      body(column, acc[n][2 * half], acc[n][2 * half + 1], column + 1 < head_dim);
    }
  }
}

/// to[row, column] += scale * acc for the lane's elements; `first` is the warp's first row.
template <int kTiles>
__device__ void add_scaled(float* to, std::int64_t row_stride, float (&acc)[kTiles][4], float scale,
                           int first, int rows, int columns) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + lane_row() + 8 * half;
    if (row >= rows) continue;
    float* at = to + row * row_stride;
    const bool pairs = reinterpret_cast<std::uintptr_t>(at) % sizeof(float2) == 0;
    for_each_pair(acc, half, columns, [&](int column, float x, float y, bool both) {
      if (both && pairs) {
        auto* pair = reinterpret_cast<float2*>(at + column);
        const float2 old = *pair;
        *pair = make_float2(old.x + scale * x, old.y + scale * y);
      } else {
        at[column] += scale * x;
        if (both) at[column + 1] += scale * y;
      }
    });
  }
}

/// to[row, column] = scale * acc, as add_scaled adds it.
template <int kTiles>
__device__ void write_scaled(bf16* to, std::int64_t row_stride, float (&acc)[kTiles][4],
                             float scale, int first, int rows, int columns) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + lane_row() + 8 * half;
    if (row >= rows) continue;
    bf16* at = to + row * row_stride;
    for_each_pair(acc, half, columns, [&](int column, float x, float y, bool both) {
      at[column] = __float2bfloat16_rn(scale * x);
      if (both) at[column + 1] = __float2bfloat16_rn(scale * y);
    });
  }
}

/// Number of leading elements of an ascending array that are less than `limit`.
__device__ inline int count_below(const std::int32_t* ascending, int count, std::int64_t limit) {
  int low = 0;
  int high = count;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (ascending[middle] < limit) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace ringtrain::kernels
