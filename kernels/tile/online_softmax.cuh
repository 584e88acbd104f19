#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/ptx/math.cuh"

/// Online softmax over wgmma fragments (kernels/ptx/wgmma.cuh): a thread holds two rows, r and
/// r + 8, each shared with the three other lanes of its quad.
namespace ringtrain::kernels {

inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

/// The largest value over the four lanes that share a row.
__device__ inline float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}

__device__ inline float quad_sum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

/// The running state of a thread's two rows, in units of log2.
struct SoftmaxRows {
  float maximum[2];  // of scale_log2 * score; -inf before the first visible key
  float sum[2];      // of this thread's columns only

  /// Replaces raw scores by weights 2^(scale_log2 * score - maximum) and sets `correction` to the
  /// factor for everything summed before. With kMasked scores may be -inf, whole rows too.
  template <bool kMasked, int kScores>
  __device__ void fold(float (&scores)[kScores], float scale_log2, float (&correction)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float largest = fmaxf(scores[2 * row], scores[2 * row + 1]);
#pragma unroll
      for (int j = 4; j < kScores; j += 4) {
        largest = fmaxf(largest, fmaxf(scores[j + 2 * row], scores[j + 2 * row + 1]));
      }
      const float updated = fmaxf(maximum[row], quad_max(largest) * scale_log2);
      // A row without keys so far: every weight is 2^(-inf - 0) = 0, not 2^(-inf + inf).
      const float base = kMasked && updated == -INFINITY ? 0.0f : updated;
      correction[row] = ptx::ex2(maximum[row] - base);
      maximum[row] = updated;
      float added = 0.0f;
#pragma unroll
      for (int j = 0; j < kScores; j += 4) {
#pragma unroll
        for (int e = 2 * row; e < 2 * row + 2; ++e) {
          scores[j + e] = ptx::ex2(fmaf(scores[j + e], scale_log2, -base));
          added += scores[j + e];
        }
      }
      sum[row] = fmaf(sum[row], correction[row], added);
    }
  }
};

/// Scores become -inf from column `limit[row]` on; `column` is this thread's first column.
template <int kScores>
__device__ inline void mask_scores(float (&scores)[kScores], const int (&limit)[2], int column) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int visible = limit[row] - column;
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& score = scores[4 * j + 2 * row + e];
        score = 8 * j + e < visible ? score : -INFINITY;
      }
    }
  }
}

/// The same, and before column `first[row]`.
template <int kScores>
__device__ inline void mask_scores(float (&scores)[kScores], const int (&first)[2],
                                   const int (&limit)[2], int column) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int skipped = first[row] - column;
    const auto visible = static_cast<unsigned>(max(0, limit[row] - first[row]));
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& score = scores[4 * j + 2 * row + e];
        score = static_cast<unsigned>(8 * j + e - skipped) < visible ? score : -INFINITY;
      }
    }
  }
}

/// Multiplies each row of accumulators by its factor.
template <int kValues>
__device__ inline void scale_rows(float (&values)[kValues], const float (&factor)[2]) {
#pragma unroll
  for (int j = 0; j < kValues; j += 4) {
    values[j] *= factor[0];
    values[j + 1] *= factor[0];
    values[j + 2] *= factor[1];
    values[j + 3] *= factor[1];
  }
}

/// Accumulators to the registers of a bf16 A operand: 4 per 16 columns, no data moves.
template <int kValues>
__device__ inline void pack_operand(std::uint32_t (&packed)[kValues / 2],
                                    const float (&values)[kValues]) {
#pragma unroll
  for (int i = 0; i < kValues / 2; ++i) {
    packed[i] = ptx::pack_bf16(values[2 * i], values[2 * i + 1]);
  }
}

}  // namespace ringtrain::kernels
