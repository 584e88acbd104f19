#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention_forward_sm90_params.cuh"
#include "kernels/tile/online_softmax.cuh"

/// How the state of query rows comes from and goes to global memory. A thread holds two rows, r
/// and r + 8 of a wgmma fragment: `out` before the division by the sums, and `softmax`.
namespace ringtrain::kernels {

/// Where a thread's two rows are in global memory.
struct AttentionRows {
  std::int64_t lse;      // index of the first; the second's is 8 more
  std::int64_t partial;  // index of its first element; the second's is partial_step more
  std::int64_t partial_step;
  bool exists[2];
  __device__ AttentionRows(const AttentionForwardSm90Params& params, std::int64_t batch, int head,
                           int query_row) {
    lse = (batch * params.query_heads + head) * params.query_tokens + query_row;
    partial =
        ((batch * params.query_tokens + query_row) * params.query_heads + head) * params.head_dim;
    partial_step = std::int64_t{8} * params.query_heads * params.head_dim;
    exists[0] = query_row < params.query_tokens;
    exists[1] = query_row + 8 < params.query_tokens;
  }
};

/// The state before this step: empty, or one column of weight 2^lse that has `partial` as value.
template <int kOut>
__device__ void begin_rows(const AttentionForwardSm90Params& params, SoftmaxRows& softmax,
                           float (&out)[kOut], const AttentionRows& rows, int column) {
  softmax = SoftmaxRows();
#pragma unroll
  for (int j = 0; j < kOut; ++j) out[j] = 0.0f;
  if (params.first) return;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (!rows.exists[i]) continue;
    const float* from = params.partial + rows.partial + i * rows.partial_step + column;
#pragma unroll
    for (int j = 0; j < kOut / 4; ++j) {
      if (8 * j >= params.head_dim) break;
      const float2 pair = *reinterpret_cast<const float2*>(from + 8 * j);
      out[4 * j + 2 * i] = pair.x;
      out[4 * j + 2 * i + 1] = pair.y;
    }
    softmax.maximum[i] = params.lse[rows.lse + 8 * i] * kLog2E;
    // Sums are of a thread's own columns: the stored state is in those of the quad's first lane.
    softmax.sum[i] = column == 0 && softmax.maximum[i] != -INFINITY ? 1.0f : 0.0f;
  }
}

/// Divides the rows by their sums and writes lse.
template <int kOut>
__device__ void finish_rows(const AttentionForwardSm90Params& params, const SoftmaxRows& softmax,
                            float (&out)[kOut], const AttentionRows& rows, int lane) {
  float inverse[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sum = quad_sum(softmax.sum[i]);
    inverse[i] = sum > 0.0f ? 1.0f / sum : 0.0f;
    if (!rows.exists[i] || lane % 4 != 0) continue;
    float* lse = params.lse + rows.lse + 8 * i;
    // A row to which this step added nothing keeps its lse to the last bit.
    if (!params.first && sum == 1.0f && softmax.maximum[i] == *lse * kLog2E) continue;
    *lse = sum > 0.0f ? fmaf(softmax.maximum[i], kLn2, logf(sum)) : -INFINITY;
  }
  scale_rows(out, inverse);
}

template <int kOut>
__device__ void store_partial(const AttentionForwardSm90Params& params, const float (&out)[kOut],
                              const AttentionRows& rows, int column) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (!rows.exists[i]) continue;
    float* to = params.partial + rows.partial + i * rows.partial_step + column;
#pragma unroll
    for (int j = 0; j < kOut / 4; ++j) {
      if (8 * j >= params.head_dim) break;
      *reinterpret_cast<float2*>(to + 8 * j) =
          make_float2(out[4 * j + 2 * i], out[4 * j + 2 * i + 1]);
    }
  }
}

}  // namespace ringtrain::kernels
