// Attention backward in fp32 on the CUDA cores, in two kernels without atomics: one block per (key
// tile, key/value head, batch) walks the queries of all heads that share it and owns dK and dV; one
// block per (query tile, query head, batch) walks the keys and owns dQ. Scores are computed in
// both. Threads as in the forward kernel. Bound by shared-memory bandwidth.
#include "kernels/tile/attention_fp32.cuh"
#include "kernels/tile/attention_mask.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention.h"

namespace ringtrain::kernels {
namespace {

// Four tiles of rows and two of scores must fit in shared memory.
template <int kDim>
constexpr int kTile = kDim <= 64 ? 64 : 32;
template <int kDim>
constexpr int kScoreStride = kTile<kDim> + 4;
template <int kDim>
constexpr int kSharedFloats =
    4 * kTile<kDim>* kSimtStride<kDim> + 2 * kTile<kDim>* kScoreStride<kDim>;

template <int kDim>
struct Tiles {
  float* query;
  float* key;
  float* value;
  float* dout;
  float* weights;  // p, [query][key]
  float* dscores;  // ds, [query][key]
  __device__ explicit Tiles(float* shared) {
    constexpr int kFloats = kTile<kDim> * kSimtStride<kDim>;
    query = shared;
    key = query + kFloats;
    value = key + kFloats;
    dout = value + kFloats;
    weights = dout + kFloats;
    dscores = weights + kTile<kDim> * kScoreStride<kDim>;
  }
};

/// Fills tiles.weights and tiles.dscores of one pair of tiles. ds carries the softmax scale.
template <int kDim>
__device__ void score_tile(const Tiles<kDim>& tiles, const QueryRows<kTile<kDim>>& rows,
                           const AttentionShape& shape, const float* lse, const float* delta,
                           int first_query, int first_key) {
  constexpr int kSize = kTile<kDim> / kSimtSide;
  const int y = threadIdx.x / kSimtSide;
  const int x = threadIdx.x % kSimtSide;
  float score[kSize][kSize];
  float dweight[kSize][kSize];
  dot_tile<kSize, kDim>(score, tiles.query, tiles.key, kSize * y, x);
  dot_tile<kSize, kDim>(dweight, tiles.dout, tiles.value, kSize * y, x);
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const int row = kSize * y + i;
    const int query = first_query + row;
    const bool inside = query < shape.query_tokens;
    const float row_lse = inside ? lse[query] : -INFINITY;
    const float row_delta = inside ? delta[query] : 0.0f;
#pragma unroll
    for (int j = 0; j < kSize; ++j) {
      const int column = x + kSimtSide * j;
      const int key = first_key + column;
      const bool visible = row_lse != -INFINITY && key < shape.key_tokens &&
                           rows.sees(row, shape.key_positions[key], shape.causal);
      const float weight = visible ? expf(score[i][j] * shape.softmax_scale - row_lse) : 0.0f;
      const int at = row * kScoreStride<kDim> + column;
      tiles.weights[at] = weight;
      tiles.dscores[at] = weight * (dweight[i][j] - row_delta) * shape.softmax_scale;
    }
  }
}

/// to[row][column] += acc for the rows and columns of this thread.
template <int kDim>
__device__ void add_rows(float* to, std::int64_t row_stride,
                         const float (&acc)[kTile<kDim> / kSimtSide][kDim / kSimtSide], int first,
                         int rows, int head_dim) {
  constexpr int kSize = kTile<kDim> / kSimtSide;
  const int y = threadIdx.x / kSimtSide;
  const int x = threadIdx.x % kSimtSide;
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const int row = first + kSize * y + i;
    if (row >= rows) continue;
#pragma unroll
    for (int c = 0; c < kDim / kSimtSide; ++c) {
      const int column = 64 * (c / 4) + 4 * x + c % 4;
      if (column < head_dim) to[row * row_stride + column] += acc[i][c];
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(kSimtThreads, 1)
    attention_backward_keys_fp32_kernel(const __grid_constant__ AttentionBackwardArgs args) {
  constexpr int kRows = kTile<kDim>;
  constexpr int kSize = kRows / kSimtSide;
  extern __shared__ float4 shared[];
  __shared__ QueryRows<kRows> rows;
  const Tiles<kDim> tiles(reinterpret_cast<float*>(shared));
  const AttentionShape& shape = args.shape;
  const int first_key = static_cast<int>(blockIdx.x) * kRows;  // with a causal mask: longest first
  const int kv_head = blockIdx.y;
  const std::int64_t batch = blockIdx.z;
  const int group = shape.query_heads / shape.kv_heads;
  const std::int64_t query_stride = std::int64_t{shape.query_heads} * shape.head_dim;
  const std::int64_t key_stride = std::int64_t{shape.kv_heads} * shape.head_dim;
  const std::int64_t key_base =
      batch * shape.key_tokens * key_stride + std::int64_t{kv_head} * shape.head_dim;
  load_tile<kRows, kDim>(tiles.key, static_cast<const float*>(args.key) + key_base, key_stride,
                         first_key, shape.key_tokens, shape.head_dim);
  load_tile<kRows, kDim>(tiles.value, static_cast<const float*>(args.value) + key_base, key_stride,
                         first_key, shape.key_tokens, shape.head_dim);
  const std::int32_t first_position = shape.key_positions[first_key];
  const std::int32_t last_position =
      shape.key_positions[min(first_key + kRows, shape.key_tokens) - 1];

  const int y = threadIdx.x / kSimtSide;
  const int x = threadIdx.x % kSimtSide;
  float dkey[kSize][kDim / kSimtSide] = {};
  float dvalue[kSize][kDim / kSimtSide] = {};
  for (int first_query = 0; first_query < shape.query_tokens; first_query += kRows) {
    const int last_query = min(first_query + kRows, shape.query_tokens) - 1;
    if (shape.causal && shape.query_positions[last_query] < first_position) continue;
    __syncthreads();  // the last tile's rows have been read
    rows.load(shape, batch, first_query);
    if (rows.begins_after(last_position)) continue;
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const std::int64_t query_base =
          batch * shape.query_tokens * query_stride + std::int64_t{head} * shape.head_dim;
      const std::int64_t row_base = (batch * shape.query_heads + head) * shape.query_tokens;
      __syncthreads();  // the last head's tiles have been read
      load_tile<kRows, kDim>(tiles.query, static_cast<const float*>(args.query) + query_base,
                             query_stride, first_query, shape.query_tokens, shape.head_dim);
      load_tile<kRows, kDim>(tiles.dout, static_cast<const float*>(args.dout) + query_base,
                             query_stride, first_query, shape.query_tokens, shape.head_dim);
      __syncthreads();
      score_tile<kDim>(tiles, rows, shape, args.lse + row_base, args.delta + row_base, first_query,
                       first_key);
      __syncthreads();
      accumulate_tile<kSize, kDim, kRows>(dvalue, tiles.weights, 1, kScoreStride<kDim>, tiles.dout,
                                          kSize * y, 4 * x);
      accumulate_tile<kSize, kDim, kRows>(dkey, tiles.dscores, 1, kScoreStride<kDim>, tiles.query,
                                          kSize * y, 4 * x);
    }
  }
  add_rows<kDim>(static_cast<float*>(args.dkey) + key_base, key_stride, dkey, first_key,
                 shape.key_tokens, shape.head_dim);
  add_rows<kDim>(static_cast<float*>(args.dvalue) + key_base, key_stride, dvalue, first_key,
                 shape.key_tokens, shape.head_dim);
}

template <int kDim>
__global__ void __launch_bounds__(kSimtThreads, 1)
    attention_backward_queries_fp32_kernel(const __grid_constant__ AttentionBackwardArgs args) {
  constexpr int kRows = kTile<kDim>;
  constexpr int kSize = kRows / kSimtSide;
  extern __shared__ float4 shared[];
  __shared__ QueryRows<kRows> rows;
  const Tiles<kDim> tiles(reinterpret_cast<float*>(shared));
  const AttentionShape& shape = args.shape;
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows;  // longest first
  const int head = blockIdx.y;
  const std::int64_t batch = blockIdx.z;
  const int kv_head = head / (shape.query_heads / shape.kv_heads);
  const std::int64_t query_stride = std::int64_t{shape.query_heads} * shape.head_dim;
  const std::int64_t key_stride = std::int64_t{shape.kv_heads} * shape.head_dim;
  const std::int64_t query_base =
      batch * shape.query_tokens * query_stride + std::int64_t{head} * shape.head_dim;
  const std::int64_t key_base =
      batch * shape.key_tokens * key_stride + std::int64_t{kv_head} * shape.head_dim;
  const std::int64_t row_base = (batch * shape.query_heads + head) * shape.query_tokens;
  load_tile<kRows, kDim>(tiles.query, static_cast<const float*>(args.query) + query_base,
                         query_stride, first_query, shape.query_tokens, shape.head_dim);
  load_tile<kRows, kDim>(tiles.dout, static_cast<const float*>(args.dout) + query_base,
                         query_stride, first_query, shape.query_tokens, shape.head_dim);
  rows.load(shape, batch, first_query);

  const int y = threadIdx.x / kSimtSide;
  const int x = threadIdx.x % kSimtSide;
  float dquery[kSize][kDim / kSimtSide] = {};
  for (int first_key = 0; first_key < shape.key_tokens; first_key += kRows) {
    const int last_key = min(first_key + kRows, shape.key_tokens) - 1;
    if (rows.ends_before(shape.key_positions[first_key], shape.causal)) break;
    if (rows.begins_after(shape.key_positions[last_key])) continue;
    __syncthreads();  // the last tiles have been read
    load_tile<kRows, kDim>(tiles.key, static_cast<const float*>(args.key) + key_base, key_stride,
                           first_key, shape.key_tokens, shape.head_dim);
    load_tile<kRows, kDim>(tiles.value, static_cast<const float*>(args.value) + key_base,
                           key_stride, first_key, shape.key_tokens, shape.head_dim);
    __syncthreads();
    score_tile<kDim>(tiles, rows, shape, args.lse + row_base, args.delta + row_base, first_query,
                     first_key);
    __syncthreads();
    accumulate_tile<kSize, kDim, kRows>(dquery, tiles.dscores, kScoreStride<kDim>, 1, tiles.key,
                                        kSize * y, 4 * x);
  }
  add_rows<kDim>(args.dquery + query_base, query_stride, dquery, first_query, shape.query_tokens,
                 shape.head_dim);
}

template <int kDim>
void launch(const AttentionBackwardArgs& args, cudaStream_t stream) {
  const AttentionShape& shape = args.shape;
  constexpr int kRows = kTile<kDim>;
  constexpr int kBytes = kSharedFloats<kDim> * static_cast<int>(sizeof(float));
  const auto blocks = [](int tokens) {
    return static_cast<unsigned>((tokens + kRows - 1) / kRows);
  };
  const auto batch = static_cast<unsigned>(shape.batch);
  const auto keys = attention_backward_keys_fp32_kernel<kDim>;
  const auto queries = attention_backward_queries_fp32_kernel<kDim>;
  for (const auto kernel : {keys, queries}) {
    RT_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  }
  keys<<<dim3(blocks(shape.key_tokens), static_cast<unsigned>(shape.kv_heads), batch), kSimtThreads,
         kBytes, stream>>>(args);
  queries<<<dim3(blocks(shape.query_tokens), static_cast<unsigned>(shape.query_heads), batch),
            kSimtThreads, kBytes, stream>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void launch_attention_backward_fp32(const AttentionBackwardArgs& args, cudaStream_t stream) {
  const AttentionShape& shape = args.shape;
  if (shape.batch == 0 || shape.query_tokens == 0 || shape.key_tokens == 0) return;
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
