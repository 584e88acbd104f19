// Attention backward in bf16 on the tensor cores (mma.sync), in two kernels without atomics: the
// scores are computed in both (seven products instead of five), and every gradient has one owner.
//   keys     a block per (key tile, key/value head, batch) walks the query tiles of all heads that
//            share it; a warp owns 16 keys and holds s^T, dp^T, dK and dV in registers
//   queries  a block per (query tile, query head, batch) walks the key tiles; a warp owns 16
//            queries and holds s, dp and dQ
// The accumulators of p and ds are, rounded, the left operands of the next product, so they never
// leave the registers. The next tile is loaded while the present one is computed. Bound by
// shared-memory reads of fragments, one per mma.
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

template <int kDim>
constexpr int kWarps = kDim <= 160 ? 8 : 4;
template <int kDim>
constexpr int kOwned = 16 * kWarps<kDim>;  // rows a block owns
template <int kDim>
constexpr int kStep = kDim <= 128 ? 64 : 32;  // rows of the tiles it walks
template <int kDim>
constexpr int kSharedElements = 2 * kMmaTile<kOwned<kDim>, kDim> + 4 * kMmaTile<kStep<kDim>, kDim>;
// Columns of dK and dV a block owns: at 256, half of them fill the registers.
template <int kDim>
constexpr int kColumns = kDim <= 160 ? kDim : kDim / 2;

/// Where things of one batch row lie.
struct Offsets {
  std::int64_t query_stride, key_stride;

  __device__ explicit Offsets(const AttentionShape& shape)
      : query_stride(std::int64_t{shape.query_heads} * shape.head_dim),
        key_stride(std::int64_t{shape.kv_heads} * shape.head_dim) {}
  __device__ std::int64_t query(const AttentionShape& shape, std::int64_t batch, int head) const {
    return batch * shape.query_tokens * query_stride + std::int64_t{head} * shape.head_dim;
  }
  __device__ std::int64_t key(const AttentionShape& shape, std::int64_t batch, int head) const {
    return batch * shape.key_tokens * key_stride + std::int64_t{head} * shape.head_dim;
  }
};

/// What the keys kernel needs of each query of a tile, double-buffered like the tile.
template <int kRows>
struct QueryColumns {
  float lse[kRows];  // in units of log2; +infinity where the row has no keys, so that p = 0
  float delta[kRows];
  std::int32_t position[kRows];
  std::int32_t lowest[kRows];

  __device__ void load(const AttentionBackwardArgs& args, std::int64_t batch, int head, int first) {
    const AttentionShape& shape = args.shape;
    const int row = threadIdx.x;
    if (row >= kRows) return;
    const int query = min(first + row, shape.query_tokens - 1);
    const std::int64_t at =
        (batch * shape.query_heads + head) * shape.query_tokens + std::int64_t{query};
    const float row_lse = first + row < shape.query_tokens ? args.lse[at] : -INFINITY;
    lse[row] = row_lse == -INFINITY ? INFINITY : row_lse * kLog2E;
    delta[row] = args.delta[at];
    position[row] = shape.query_positions[query];
    lowest[row] = shape.lowest_visible != nullptr
                      ? shape.lowest_visible[batch * shape.query_tokens + query]
                      : INT32_MIN;
  }
};

template <int kDim>
__global__ void __launch_bounds__(kWarps<kDim>* kWarpSize, 1)
    attention_backward_keys_mma_kernel(const __grid_constant__ AttentionBackwardArgs args,
                                       int vector) {
  constexpr int kThreads = kWarps<kDim> * kWarpSize;
  constexpr int kRows = kStep<kDim>;
  constexpr int kScores = kRows / 8;
  constexpr int kOuts = kColumns<kDim> / 8;
  extern __shared__ uint4 shared[];
  __shared__ QueryColumns<kRows> columns[2];
  bf16* key_tile = reinterpret_cast<bf16*>(shared);
  bf16* value_tile = key_tile + kMmaTile<kOwned<kDim>, kDim>;
  bf16* query_tiles = value_tile + kMmaTile<kOwned<kDim>, kDim>;
  bf16* dout_tiles = query_tiles + 2 * kMmaTile<kRows, kDim>;

  const AttentionShape& shape = args.shape;
  const Offsets offsets(shape);
  constexpr int kParts = kDim / kColumns<kDim>;
  const int first_key = static_cast<int>(blockIdx.x) / kParts * kOwned<kDim>;
  const int first_column = static_cast<int>(blockIdx.x) % kParts * kColumns<kDim>;
  const int kv_head = blockIdx.y;
  const std::int64_t batch = blockIdx.z;
  const int group = shape.query_heads / shape.kv_heads;
  const std::int64_t key_base = offsets.key(shape, batch, kv_head);
  const int last_key = min(first_key + kOwned<kDim>, shape.key_tokens) - 1;
  const std::int32_t first_position = shape.key_positions[first_key];
  const std::int32_t last_position = shape.key_positions[last_key];

  // Steps run over query tiles, and inside a tile over the heads of the group.
  const int first_tile =
      shape.causal ? count_below(shape.query_positions, shape.query_tokens, first_position) / kRows
                   : 0;
  const int num_tiles = (shape.query_tokens + kRows - 1) / kRows;
  const int end = num_tiles * group;
  const auto load_step = [&](int step, int stage) {
    const int head = kv_head * group + step % group;
    const int first_query = step / group * kRows;
    const std::int64_t query_base = offsets.query(shape, batch, head);
    load_rows_async<kRows, kDim, kThreads>(query_tiles + stage * kMmaTile<kRows, kDim>,
                                           static_cast<const bf16*>(args.query) + query_base,
                                           offsets.query_stride, first_query, shape.query_tokens,
                                           shape.head_dim, vector);
    load_rows_async<kRows, kDim, kThreads>(dout_tiles + stage * kMmaTile<kRows, kDim>,
                                           static_cast<const bf16*>(args.dout) + query_base,
                                           offsets.query_stride, first_query, shape.query_tokens,
                                           shape.head_dim, vector);
    columns[stage].load(args, batch, head, first_query);
  };
  int step = first_tile * group;
  if (step >= end) return;  // no query sees these keys
  load_rows_async<kOwned<kDim>, kDim, kThreads>(
      key_tile, static_cast<const bf16*>(args.key) + key_base, offsets.key_stride, first_key,
      shape.key_tokens, shape.head_dim, vector);
  load_rows_async<kOwned<kDim>, kDim, kThreads>(
      value_tile, static_cast<const bf16*>(args.value) + key_base, offsets.key_stride, first_key,
      shape.key_tokens, shape.head_dim, vector);
  load_step(step, 0);

  const float scale = shape.softmax_scale * kLog2E;
  const int warp_key = first_key + 16 * warp_index();
  std::int32_t key_position[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    key_position[half] =
        shape.key_positions[min(warp_key + lane_row() + 8 * half, shape.key_tokens - 1)];
  }
  float dkey[kOuts][4] = {};
  float dvalue[kOuts][4] = {};
  for (int stage = 0; step < end; ++step, stage ^= 1) {
    ptx::cp_async_wait_all();
    __syncthreads();  // this step's tiles are here, and nobody reads the other stage any more
    if (step + 1 < end) load_step(step + 1, stage ^ 1);
    const QueryColumns<kRows>& queries = columns[stage];
    const bf16* query_tile = query_tiles + stage * kMmaTile<kRows, kDim>;
    const bf16* dout_tile = dout_tiles + stage * kMmaTile<kRows, kDim>;
    bool masked = shape.causal && queries.position[0] < last_position;
    if (shape.lowest_visible != nullptr) {
      const std::int32_t lowest = queries.lowest[threadIdx.x % kRows];
      if (!__syncthreads_or(lowest <= last_position)) continue;
      masked = __syncthreads_or(lowest > first_position) || masked;
    }

    float weight[kScores][4];  // s^T, then p^T
    multiply_rows<kDim>(weight, key_tile + warp_index() * kMmaTile<16, kDim>, query_tile);
#pragma unroll
    for (int n = 0; n < kScores; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int query = 8 * n + lane_column() + e % 2;
        weight[n][e] = ptx::ex2(fmaf(weight[n][e], scale, -queries.lse[query]));
        if (masked) {
          const std::int32_t position = key_position[e / 2];
          const bool visible = position >= queries.lowest[query] &&
                               (!shape.causal || position <= queries.position[query]);
          if (!visible) weight[n][e] = 0.0f;
        }
      }
    }
    accumulate_rows<kDim>(dvalue, weight, dout_tile + first_column);
    float dscore[kScores][4];  // dp^T, then ds^T
    multiply_rows<kDim>(dscore, value_tile + warp_index() * kMmaTile<16, kDim>, dout_tile);
#pragma unroll
    for (int n = 0; n < kScores; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int query = 8 * n + lane_column() + e % 2;
        dscore[n][e] = weight[n][e] * (dscore[n][e] - queries.delta[query]);
      }
    }
    accumulate_rows<kDim>(dkey, dscore, query_tile + first_column);
  }
  const std::int64_t out = key_base + first_column;
  const int columns_left = shape.head_dim - first_column;
  const auto put = [&](void* gradient, float(&sum)[kOuts][4], float scale) {
    if (args.rounds_key_value) {
      write_scaled(static_cast<bf16*>(gradient) + out, offsets.key_stride, sum, scale, warp_key,
                   shape.key_tokens, columns_left);
    } else {
      add_scaled(static_cast<float*>(gradient) + out, offsets.key_stride, sum, scale, warp_key,
                 shape.key_tokens, columns_left);
    }
  };
  put(args.dkey, dkey, shape.softmax_scale);
  put(args.dvalue, dvalue, 1.0f);
}

template <int kDim>
__global__ void __launch_bounds__(kWarps<kDim>* kWarpSize, 1)
    attention_backward_queries_mma_kernel(const __grid_constant__ AttentionBackwardArgs args,
                                          int vector) {
  constexpr int kThreads = kWarps<kDim> * kWarpSize;
  constexpr int kRows = kStep<kDim>;
  constexpr int kScores = kRows / 8;
  extern __shared__ uint4 shared[];
  __shared__ QueryRows<kOwned<kDim>> rows;
  bf16* query_tile = reinterpret_cast<bf16*>(shared);
  bf16* dout_tile = query_tile + kMmaTile<kOwned<kDim>, kDim>;
  bf16* key_tiles = dout_tile + kMmaTile<kOwned<kDim>, kDim>;
  bf16* value_tiles = key_tiles + 2 * kMmaTile<kRows, kDim>;

  const AttentionShape& shape = args.shape;
  const Offsets offsets(shape);
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kOwned<kDim>;
  const int head = blockIdx.y;
  const std::int64_t batch = blockIdx.z;
  const int kv_head = head / (shape.query_heads / shape.kv_heads);
  const std::int64_t query_base = offsets.query(shape, batch, head);
  const std::int64_t key_base = offsets.key(shape, batch, kv_head);
  rows.load(shape, batch, first_query);
  const int begin =
      count_below(shape.key_positions, shape.key_tokens, rows.lowest_bounds[0]) / kRows * kRows;
  const int end = shape.causal ? count_below(shape.key_positions, shape.key_tokens,
                                             std::int64_t{rows.position[kOwned<kDim> - 1]} + 1)
                               : shape.key_tokens;
  if (begin >= end) return;  // these queries see no key

  const auto load_keys = [&](int first_key, int stage) {
    load_rows_async<kRows, kDim, kThreads>(
        key_tiles + stage * kMmaTile<kRows, kDim>, static_cast<const bf16*>(args.key) + key_base,
        offsets.key_stride, first_key, shape.key_tokens, shape.head_dim, vector);
    load_rows_async<kRows, kDim, kThreads>(value_tiles + stage * kMmaTile<kRows, kDim>,
                                           static_cast<const bf16*>(args.value) + key_base,
                                           offsets.key_stride, first_key, shape.key_tokens,
                                           shape.head_dim, vector);
  };
  load_rows_async<kOwned<kDim>, kDim, kThreads>(
      query_tile, static_cast<const bf16*>(args.query) + query_base, offsets.query_stride,
      first_query, shape.query_tokens, shape.head_dim, vector);
  load_rows_async<kOwned<kDim>, kDim, kThreads>(
      dout_tile, static_cast<const bf16*>(args.dout) + query_base, offsets.query_stride,
      first_query, shape.query_tokens, shape.head_dim, vector);
  load_keys(begin, 0);

  const float scale = shape.softmax_scale * kLog2E;
  const int warp_query = first_query + 16 * warp_index();
  float lse[2];  // in units of log2; +infinity where the row has no keys, so that p = 0
  float delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = warp_query + lane_row() + 8 * half;
    const std::int64_t at = (batch * shape.query_heads + head) * shape.query_tokens +
                            min(query, shape.query_tokens - 1);
    const float row_lse = query < shape.query_tokens ? args.lse[at] : -INFINITY;
    lse[half] = row_lse == -INFINITY ? INFINITY : row_lse * kLog2E;
    delta[half] = args.delta[at];
  }
  float dquery[kDim / 8][4] = {};
  int stage = 0;
  for (int first_key = begin; first_key < end; first_key += kRows, stage ^= 1) {
    ptx::cp_async_wait_all();
    __syncthreads();  // this tile is here, and nobody reads the other stage any more
    if (first_key + kRows < end) load_keys(first_key + kRows, stage ^ 1);
    const bf16* key_tile = key_tiles + stage * kMmaTile<kRows, kDim>;
    const bf16* value_tile = value_tiles + stage * kMmaTile<kRows, kDim>;
    const int last_key = first_key + kRows - 1;
    const bool masked =
        last_key >= shape.key_tokens ||
        !rows.sees_all(shape.key_positions[first_key], shape.key_positions[last_key], shape.causal);

    float weight[kScores][4];  // s, then p
    float dscore[kScores][4];  // dp, then ds
    multiply_rows<kDim>(weight, query_tile + warp_index() * kMmaTile<16, kDim>, key_tile);
    multiply_rows<kDim>(dscore, dout_tile + warp_index() * kMmaTile<16, kDim>, value_tile);
#pragma unroll
    for (int n = 0; n < kScores; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        weight[n][e] = ptx::ex2(fmaf(weight[n][e], scale, -lse[e / 2]));
        if (masked) {
          const int key = first_key + 8 * n + lane_column() + e % 2;
          const int row = 16 * warp_index() + lane_row() + 8 * (e / 2);
          const bool visible =
              key < shape.key_tokens &&
              rows.sees(row, shape.key_positions[min(key, shape.key_tokens - 1)], shape.causal);
          if (!visible) weight[n][e] = 0.0f;
        }
        dscore[n][e] = weight[n][e] * (dscore[n][e] - delta[e / 2]);
      }
    }
    accumulate_rows<kDim>(dquery, dscore, key_tile);
  }
  add_scaled(args.dquery + query_base, offsets.query_stride, dquery, shape.softmax_scale,
             warp_query, shape.query_tokens, shape.head_dim);
}

template <int kDim>
void launch(const AttentionBackwardArgs& args, cudaStream_t stream) {
  const AttentionShape& shape = args.shape;
  constexpr int kBytes = kSharedElements<kDim> * static_cast<int>(sizeof(bf16));
  constexpr int kThreads = kWarps<kDim> * kWarpSize;
  const auto keys = attention_backward_keys_mma_kernel<kDim>;
  const auto queries = attention_backward_queries_mma_kernel<kDim>;
  for (const auto kernel : {keys, queries}) {
    RT_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  }
  const int vector = vector_of(shape.head_dim, {args.query, args.key, args.value, args.dout});
  const auto tiles = [](int tokens) {
    return static_cast<unsigned>((tokens + kOwned<kDim> - 1) / kOwned<kDim>);
  };
  const auto batch = static_cast<unsigned>(shape.batch);
  keys<<<dim3(tiles(shape.key_tokens) * (kDim / kColumns<kDim>),
              static_cast<unsigned>(shape.kv_heads), batch),
         kThreads, kBytes, stream>>>(args, vector);
  queries<<<dim3(tiles(shape.query_tokens), static_cast<unsigned>(shape.query_heads), batch),
            kThreads, kBytes, stream>>>(args, vector);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void launch_attention_backward_bf16(const AttentionBackwardArgs& args, cudaStream_t stream) {
  const AttentionShape& shape = args.shape;
  if (shape.batch == 0 || shape.query_tokens == 0 || shape.key_tokens == 0) return;
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
