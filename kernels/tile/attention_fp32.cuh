#pragma once

#include <cuda_runtime.h>

#include <cstdint>

/// Shared-memory tiles of the attention kernels on the CUDA cores: fp32, rows padded by four
/// floats so that sixteen neighbouring rows are read as float4 without bank conflicts.
namespace ringtrain::kernels {

inline constexpr int kSimtThreads = 256;  // a 16 x 16 grid of threads over every tile
inline constexpr int kSimtSide = 16;

template <int kDim>
inline constexpr int kSimtStride = kDim + 4;

/// Loads rows [first, first + kRows) of one head; rows from `rows` on and columns from head_dim
/// on become zero. `base` is row 0 of the head, `row_stride` elements lie between rows.
template <int kRows, int kDim>
__device__ void load_tile(float* tile, const float* base, std::int64_t row_stride, int first,
                          int rows, int head_dim) {
  for (int i = threadIdx.x; i < kRows * kDim; i += kSimtThreads) {
    const int row = i / kDim;
    const int column = i % kDim;
    const bool inside = first + row < rows && column < head_dim;
    tile[row * kSimtStride<kDim> + column] =
        inside ? base[(first + row) * row_stride + column] : 0.0f;
  }
}

/// out[i][j] = a[row_a + i] . b[row_b + 16 j] over kDim columns.
template <int kSize, int kDim>
__device__ void dot_tile(float (&out)[kSize][kSize], const float* a, const float* b, int row_a,
                         int row_b) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
#pragma unroll
    for (int j = 0; j < kSize; ++j) out[i][j] = 0.0f;
  }
#pragma unroll 4
  for (int d = 0; d < kDim; d += 4) {
    float4 x[kSize];
    float4 y[kSize];
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      x[i] = *reinterpret_cast<const float4*>(a + (row_a + i) * kSimtStride<kDim> + d);
      y[i] = *reinterpret_cast<const float4*>(b + (row_b + kSimtSide * i) * kSimtStride<kDim> + d);
    }
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        out[i][j] += x[i].x * y[j].x;
        out[i][j] += x[i].y * y[j].y;
        out[i][j] += x[i].z * y[j].z;
        out[i][j] += x[i].w * y[j].w;
      }
    }
  }
}

/// acc[i][4 c + e] += sum over k of weights[(row + i), k] * tile[k, 64 c + column + e], where
/// weights(i, k) lies at weights[(row + i) * row_step + k * k_step].
template <int kSize, int kDim, int kCount>
__device__ void accumulate_tile(float (&acc)[kSize][kDim / kSimtSide], const float* weights,
                                int row_step, int k_step, const float* tile, int row, int column) {
#pragma unroll 2
  for (int k = 0; k < kCount; ++k) {
    float w[kSize];
#pragma unroll
    for (int i = 0; i < kSize; ++i) w[i] = weights[(row + i) * row_step + k * k_step];
#pragma unroll
    for (int c = 0; c < kDim / 64; ++c) {
      const float4 x =
          *reinterpret_cast<const float4*>(tile + k * kSimtStride<kDim> + 64 * c + column);
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        acc[i][4 * c + 0] += w[i] * x.x;
        acc[i][4 * c + 1] += w[i] * x.y;
        acc[i][4 * c + 2] += w[i] * x.z;
        acc[i][4 * c + 3] += w[i] * x.w;
      }
    }
  }
}

}  // namespace ringtrain::kernels
