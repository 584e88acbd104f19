// Attention forward in bf16 on the tensor cores (mma.sync, sm_80 and later; the scheme of
// FlashAttention-2, arXiv:2307.08691). One block per (query tile, query head, batch); each warp
// owns 16 query rows, with scores and output in registers. Keys and values of the next tile are
// loaded (cp.async) while the present one is computed. Only the range of key tiles that some row
// sees is walked, and masks are evaluated only in tiles that not every row sees whole.
// Bound by shared-memory reads of the key and value fragments, one per mma.
#include <string>

#include "kernels/ptx/math.cuh"
#include "kernels/tile/attention_mask.cuh"
#include "kernels/tile/attention_mma.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention.h"

namespace ringtrain::kernels {
namespace {

constexpr float kLog2E = 1.4426950408889634f;

// Above 160 the output of 16 rows fills half of the registers: fewer warps, smaller key tiles.
template <int kDim>
constexpr int kWarps = kDim <= 160 ? 8 : 4;
template <int kDim>
constexpr int kKeys = kDim <= 160 ? 64 : 32;
// Blocks per SM. At 128 the second one makes the compiler spill 40 bytes of set-up and still gains
// 10 to 15 % on an H100 (8K tokens, 32 heads: 234 instead of 203 TFLOP/s); above, it does not fit.
template <int kDim>
constexpr int kBlocks = kDim <= 128 ? 2 : 1;
template <int kDim>
constexpr int kQueries = 16 * kWarps<kDim>;
template <int kDim>
constexpr int kSharedElements = kMmaTile<kQueries<kDim>, kDim> + 4 * kMmaTile<kKeys<kDim>, kDim>;

/// Scores of keys that a row does not see become -infinity.
template <int kTiles, int kRows>
__device__ void mask_scores(float (&score)[kTiles][4], const QueryRows<kRows>& rows,
                            const AttentionShape& shape, int first_key) {
  const int row = 16 * warp_index() + lane_row();
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = first_key + 8 * n + lane_column() + e % 2;
      const bool visible =
          key < shape.key_tokens &&
          rows.sees(row + e / 2 * 8, shape.key_positions[min(key, shape.key_tokens - 1)],
                    shape.causal);
      if (!visible) score[n][e] = -INFINITY;
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(kWarps<kDim>* kWarpSize, kBlocks<kDim>)
    attention_forward_mma_kernel(const __grid_constant__ AttentionForwardArgs args, int vector) {
  constexpr int kThreads = kWarps<kDim> * kWarpSize;
  constexpr int kStep = kKeys<kDim>;
  constexpr int kScores = kStep / 8;
  constexpr int kOuts = kDim / 8;
  extern __shared__ uint4 shared[];
  __shared__ QueryRows<kQueries<kDim>> rows;
  bf16* query_tile = reinterpret_cast<bf16*>(shared);
  bf16* key_tiles = query_tile + kMmaTile<kQueries<kDim>, kDim>;
  bf16* value_tiles = key_tiles + 2 * kMmaTile<kStep, kDim>;

  const AttentionShape& shape = args.shape;
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kQueries<kDim>;
  const int head = blockIdx.y;
  const std::int64_t batch = blockIdx.z;
  const int kv_head = head / (shape.query_heads / shape.kv_heads);
  const std::int64_t query_stride = std::int64_t{shape.query_heads} * shape.head_dim;
  const std::int64_t key_stride = std::int64_t{shape.kv_heads} * shape.head_dim;
  const std::int64_t query_base =
      batch * shape.query_tokens * query_stride + std::int64_t{head} * shape.head_dim;
  const std::int64_t key_base =
      batch * shape.key_tokens * key_stride + std::int64_t{kv_head} * shape.head_dim;
  const bf16* keys = static_cast<const bf16*>(args.key) + key_base;
  const bf16* values = static_cast<const bf16*>(args.value) + key_base;
  float* lse = args.lse + (batch * shape.query_heads + head) * shape.query_tokens;

  const auto load_keys = [&](int first_key, int stage) {
    load_rows_async<kStep, kDim, kThreads>(key_tiles + stage * kMmaTile<kStep, kDim>, keys,
                                           key_stride, first_key, shape.key_tokens, shape.head_dim,
                                           vector);
    load_rows_async<kStep, kDim, kThreads>(value_tiles + stage * kMmaTile<kStep, kDim>, values,
                                           key_stride, first_key, shape.key_tokens, shape.head_dim,
                                           vector);
  };
  load_rows_async<kQueries<kDim>, kDim, kThreads>(
      query_tile, static_cast<const bf16*>(args.query) + query_base, query_stride, first_query,
      shape.query_tokens, shape.head_dim, vector);
  rows.load(shape, batch, first_query);
  const int begin =
      count_below(shape.key_positions, shape.key_tokens, rows.lowest_bounds[0]) / kStep * kStep;
  const int end = shape.causal ? count_below(shape.key_positions, shape.key_tokens,
                                             std::int64_t{rows.position[kQueries<kDim> - 1]} + 1)
                               : shape.key_tokens;
  if (begin < end) load_keys(begin, 0);

  // The state of this lane's two rows: the largest score before scaling, and the sum over this
  // lane's columns. A finished step stands for one key of weight 1 and score lse / softmax_scale.
  const int warp_query = first_query + 16 * warp_index();
  const float scale = shape.softmax_scale * kLog2E;
  float maximum[2];
  float sum[2];
  float acc[kOuts][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = warp_query + lane_row() + 8 * half;
    const bool resume = !args.first && query < shape.query_tokens;
    maximum[half] = resume ? lse[query] / shape.softmax_scale : -INFINITY;
    sum[half] = maximum[half] != -INFINITY && lane_index() % 4 == 0 ? 1.0f : 0.0f;
    const float* partial = args.partial + (query_base + query * query_stride);
#pragma unroll
    for (int n = 0; n < kOuts; ++n) {
      const int column = 8 * n + lane_column();
      acc[n][2 * half] = resume && column < shape.head_dim ? partial[column] : 0.0f;
      acc[n][2 * half + 1] = resume && column + 1 < shape.head_dim ? partial[column + 1] : 0.0f;
    }
  }

  int stage = 0;
  for (int first_key = begin; first_key < end; first_key += kStep, stage ^= 1) {
    ptx::cp_async_wait_all();
    __syncthreads();  // this tile is here, and nobody reads the other stage any more
    if (first_key + kStep < end) load_keys(first_key + kStep, stage ^ 1);
    float score[kScores][4];
    multiply_rows<kDim>(score, query_tile + warp_index() * kMmaTile<16, kDim>,
                        key_tiles + stage * kMmaTile<kStep, kDim>);
    const int last_key = first_key + kStep - 1;
    if (last_key >= shape.key_tokens ||
        !rows.sees_all(shape.key_positions[first_key], shape.key_positions[last_key],
                       shape.causal)) {
      mask_scores(score, rows, shape, first_key);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = -INFINITY;
#pragma unroll
      for (int n = 0; n < kScores; ++n) {
        largest = fmaxf(largest, fmaxf(score[n][2 * half], score[n][2 * half + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      const float new_maximum = fmaxf(maximum[half], largest);
      // Before the first visible key everything is 2^(-inf - 0) = 0. The product is rounded here,
      // not fused below, so that an unchanged maximum gives a correction of exactly 1.
      const float shift = new_maximum == -INFINITY ? 0.0f : __fmul_rn(new_maximum, scale);
      const float correction = ptx::ex2(__fmul_rn(maximum[half], scale) - shift);
      maximum[half] = new_maximum;
      float tile_sum = 0.0f;
#pragma unroll
      for (int n = 0; n < kScores; ++n) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          score[n][e] = ptx::ex2(fmaf(score[n][e], scale, -shift));
          tile_sum += score[n][e];
        }
      }
      sum[half] = sum[half] * correction + tile_sum;
#pragma unroll
      for (int n = 0; n < kOuts; ++n) {
        acc[n][2 * half] *= correction;
        acc[n][2 * half + 1] *= correction;
      }
    }
    accumulate_rows<kDim>(acc, score, value_tiles + stage * kMmaTile<kStep, kDim>);
  }
  ptx::cp_async_wait_all();

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = sum[half];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    const int query = warp_query + lane_row() + 8 * half;
    const bool inside = query < shape.query_tokens;
    const bool empty = maximum[half] == -INFINITY;
    // A row that saw nothing new keeps its bits: a division and a product would lose some.
    const bool unchanged =
        !args.first && inside && total == 1.0f && maximum[half] == lse[query] / shape.softmax_scale;
    __syncwarp();  // every lane has read lse[query] before one overwrites it
    if (!inside) continue;
    if (lane_index() % 4 == 0 && !unchanged) {
      lse[query] = empty ? -INFINITY : maximum[half] * shape.softmax_scale + logf(total);
    }
    const float factor = empty ? 0.0f : 1.0f / total;
    const std::int64_t at = query_base + query * query_stride;
    if (args.last) {
      bf16* out = static_cast<bf16*>(args.out) + at;
      const bool pairs = reinterpret_cast<std::uintptr_t>(out) % sizeof(__nv_bfloat162) == 0;
      for_each_pair(acc, half, shape.head_dim, [&](int column, float x, float y, bool both) {
        if (both && pairs) {
          *reinterpret_cast<__nv_bfloat162*>(out + column) =
              __floats2bfloat162_rn(x * factor, y * factor);
        } else {
          out[column] = from_float<bf16>(x * factor);
          if (both) out[column + 1] = from_float<bf16>(y * factor);
        }
      });
    } else {
      float* partial = args.partial + at;
      for_each_pair(acc, half, shape.head_dim, [&](int column, float x, float y, bool both) {
        partial[column] = x * factor;
        if (both) partial[column + 1] = y * factor;
      });
    }
  }
}

template <int kDim>
void launch(const AttentionForwardArgs& args, cudaStream_t stream) {
  const AttentionShape& shape = args.shape;
  constexpr int kBytes = kSharedElements<kDim> * static_cast<int>(sizeof(bf16));
  const auto kernel = attention_forward_mma_kernel<kDim>;
  RT_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  const dim3 grid(static_cast<unsigned>((shape.query_tokens + kQueries<kDim> - 1) / kQueries<kDim>),
                  static_cast<unsigned>(shape.query_heads), static_cast<unsigned>(shape.batch));
  kernel<<<grid, kWarps<kDim> * kWarpSize, kBytes, stream>>>(
      args, vector_of(shape.head_dim, {args.query, args.key, args.value}));
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void launch_attention_forward_bf16(const AttentionForwardArgs& args, cudaStream_t stream) {
  const AttentionShape& shape = args.shape;
  if (shape.batch == 0 || shape.query_tokens == 0) return;
  if (shape.head_dim <= 64) {
    launch<64>(args, stream);
  } else if (shape.head_dim <= 128) {
    launch<128>(args, stream);
  } else if (shape.head_dim <= 160) {
    launch<160>(args, stream);
  } else {
    check_head_dim(shape.head_dim);
    launch<256>(args, stream);
  }
}

}  // namespace ringtrain::kernels
