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
  float maximum[2] = {-INFINITY, -INFINITY};  // of scale_log2 * score
  float sum[2] = {0.0f, 0.0f};                // of this thread's columns only

  /// Raises the maximum of row kRow to that of its raw scores and returns the factor for everything
  /// summed before. With kMasked scores may be -inf, whole rows too.
  template <int kRow, bool kMasked, int kScores>
  __device__ float raise(const float (&scores)[kScores], float scale_log2) {
    float largest[2] = {scores[2 * kRow], scores[2 * kRow + 1]};  // two chains: half the latency
#pragma unroll
    for (int j = 4; j < kScores; j += 4) {
#pragma unroll
      for (int e = 0; e < 2; ++e) largest[e] = fmaxf(largest[e], scores[j + 2 * kRow + e]);
    }
    const float before = maximum[kRow];
    maximum[kRow] = fmaxf(before, quad_max(fmaxf(largest[0], largest[1])) * scale_log2);
    const float correction = ptx::ex2(before - base<kMasked>(kRow));
    sum[kRow] *= correction;
    return correction;
  }

  /// Replaces the raw scores of row kRow by weights 2^(scale_log2 * score - maximum) and adds them
  /// to the sum.
  template <int kRow, bool kMasked, int kScores>
  __device__ void weigh(float (&scores)[kScores], float scale_log2) {
    const float base = this->base<kMasked>(kRow);
#pragma unroll
    for (int j = 2 * kRow; j < kScores; j += 4) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        scores[j + e] = ptx::ex2(fmaf(scores[j + e], scale_log2, -base));
        sum[kRow] += scores[j + e];
      }
    }
  }

 private:
  /// A row without keys so far: every weight is 2^(-inf - 0) = 0, not 2^(-inf + inf).
  template <bool kMasked>
  __device__ float base(int row) const {
    return kMasked && maximum[row] == -INFINITY ? 0.0f : maximum[row];
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
