// Attention forward in fp32 on the CUDA cores. One block per (64 query rows, query head, batch)
// walks the visible key tiles of 64 with an online softmax; thread (y, x) of a 16 x 16 grid owns
// the scores of rows 4y .. 4y + 3 and columns x, x + 16, ... and the same rows of the output.
// Scores live in shared memory one tile at a time. Bound by shared-memory bandwidth (8 float4 reads
// for 64 FMA).
#include "kernels/tile/attention_fp32.cuh"
#include "kernels/tile/attention_mask.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention.h"

namespace ringtrain::kernels {
namespace {

constexpr int kTile = 64;
constexpr int kSize = kTile / kSimtSide;
constexpr int kScoreStride = kTile + 4;

template <int kDim>
constexpr int kSharedFloats = 2 * kTile* kSimtStride<kDim> + kTile* kScoreStride;

template <int kDim>
__global__ void __launch_bounds__(kSimtThreads, 1)
    attention_forward_fp32_kernel(const __grid_constant__ AttentionForwardArgs args) {
  extern __shared__ float4 shared[];
  __shared__ QueryRows<kTile> rows;
  float* query_tile = reinterpret_cast<float*>(shared);
  float* key_value_tile = query_tile + kTile * kSimtStride<kDim>;  // keys, then values
  float* weight_tile = key_value_tile + kTile * kSimtStride<kDim>;

  const AttentionShape& shape = args.shape;
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile;  // longest first
  const int head = blockIdx.y;
  const std::int64_t batch = blockIdx.z;
  const int kv_head = head / (shape.query_heads / shape.kv_heads);
  const std::int64_t query_stride = std::int64_t{shape.query_heads} * shape.head_dim;
  const std::int64_t key_stride = std::int64_t{shape.kv_heads} * shape.head_dim;
  const std::int64_t query_base =
      batch * shape.query_tokens * query_stride + std::int64_t{head} * shape.head_dim;
  const std::int64_t key_base =
      batch * shape.key_tokens * key_stride + std::int64_t{kv_head} * shape.head_dim;
  float* lse = args.lse + (batch * shape.query_heads + head) * shape.query_tokens;

  const int y = threadIdx.x / kSimtSide;
  const int x = threadIdx.x % kSimtSide;
  float maximum[kSize];
  float sum[kSize];  // this thread's columns only, until the end
  float acc[kSize][kDim / kSimtSide];
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const int query = first_query + kSize * y + i;
    const bool resume = !args.first && query < shape.query_tokens;
    maximum[i] = resume ? lse[query] : -INFINITY;
    sum[i] = resume && x == 0 && maximum[i] != -INFINITY ? 1.0f : 0.0f;
#pragma unroll
    for (int c = 0; c < kDim / kSimtSide; ++c) {
      const int column = 64 * (c / 4) + 4 * x + c % 4;
      acc[i][c] = resume && column < shape.head_dim
                      ? args.partial[query_base + query * query_stride + column]
                      : 0.0f;
    }
  }
  load_tile<kTile, kDim>(query_tile, static_cast<const float*>(args.query) + query_base,
                         query_stride, first_query, shape.query_tokens, shape.head_dim);
  rows.load(shape, batch, first_query);

  for (int first_key = 0; first_key < shape.key_tokens; first_key += kTile) {
    const int last_key = min(first_key + kTile, shape.key_tokens) - 1;
    if (rows.ends_before(shape.key_positions[first_key], shape.causal)) break;
    if (rows.begins_after(shape.key_positions[last_key])) continue;
    __syncthreads();  // the last tile's values have been read
    load_tile<kTile, kDim>(key_value_tile, static_cast<const float*>(args.key) + key_base,
                           key_stride, first_key, shape.key_tokens, shape.head_dim);
    __syncthreads();
    float score[kSize][kSize];
    dot_tile<kSize, kDim>(score, query_tile, key_value_tile, kSize * y, x);
    std::int32_t key_position[kSize];
#pragma unroll
    for (int j = 0; j < kSize; ++j) {
      key_position[j] = shape.key_positions[min(first_key + x + kSimtSide * j, last_key)];
    }
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const int row = kSize * y + i;
      float tile_maximum = -INFINITY;
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        const bool visible = first_key + x + kSimtSide * j <= last_key &&
                             rows.sees(row, key_position[j], shape.causal);
        score[i][j] = visible ? score[i][j] * shape.softmax_scale : -INFINITY;
        tile_maximum = fmaxf(tile_maximum, score[i][j]);
      }
      tile_maximum =
          warp_reduce<kSimtSide>(tile_maximum, [](float a, float b) { return fmaxf(a, b); });
      const float new_maximum = fmaxf(maximum[i], tile_maximum);
      // Before the first visible key everything is exp(-inf - 0) = 0.
      const float shift = new_maximum == -INFINITY ? 0.0f : new_maximum;
      const float correction = expf(maximum[i] - shift);
      maximum[i] = new_maximum;
      sum[i] *= correction;
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        const float weight = expf(score[i][j] - shift);
        sum[i] += weight;
        weight_tile[row * kScoreStride + x + kSimtSide * j] = weight;
      }
#pragma unroll
      for (int c = 0; c < kDim / kSimtSide; ++c) acc[i][c] *= correction;
    }
    __syncthreads();
    load_tile<kTile, kDim>(key_value_tile, static_cast<const float*>(args.value) + key_base,
                           key_stride, first_key, shape.key_tokens, shape.head_dim);
    __syncthreads();
    accumulate_tile<kSize, kDim, kTile>(acc, weight_tile, kScoreStride, 1, key_value_tile,
                                        kSize * y, 4 * x);
  }

#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const int query = first_query + kSize * y + i;
    const float total = warp_reduce<kSimtSide>(sum[i], Sum{});
    if (query >= shape.query_tokens) continue;
    const bool empty = maximum[i] == -INFINITY;
    if (x == 0) lse[query] = empty ? -INFINITY : maximum[i] + logf(total);
#pragma unroll
    for (int c = 0; c < kDim / kSimtSide; ++c) {
      const int column = 64 * (c / 4) + 4 * x + c % 4;
      if (column >= shape.head_dim) continue;
      const float value = empty ? 0.0f : acc[i][c] / total;
      const std::int64_t at = query_base + query * query_stride + column;
      if (args.last) {
        static_cast<float*>(args.out)[at] = value;
      } else {
        args.partial[at] = value;
      }
    }
  }
}

template <int kDim>
void launch(const AttentionForwardArgs& args, cudaStream_t stream) {
  const AttentionShape& shape = args.shape;
  constexpr int kBytes = kSharedFloats<kDim> * static_cast<int>(sizeof(float));
  const auto kernel = attention_forward_fp32_kernel<kDim>;
  RT_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  const dim3 grid(static_cast<unsigned>((shape.query_tokens + kTile - 1) / kTile),
                  static_cast<unsigned>(shape.query_heads), static_cast<unsigned>(shape.batch));
  kernel<<<grid, kSimtThreads, kBytes, stream>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void launch_attention_forward_fp32(const AttentionForwardArgs& args, cudaStream_t stream) {
  const AttentionShape& shape = args.shape;
  if (shape.batch == 0 || shape.query_tokens == 0) return;
  if (shape.head_dim <= 64) {
    launch<64>(args, stream);
  } else if (shape.head_dim <= 128) {
    launch<128>(args, stream);
  } else {
    check_head_dim(shape.head_dim);
    launch<256>(args, stream);
  }
}

}  // namespace ringtrain::kernels
