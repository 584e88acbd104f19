#pragma once

#include <cuda_bf16.h>

#include <climits>
#include <cstdint>

#include "kernels/attention_backward_sm90_work.cuh"
#include "kernels/ptx/global.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/ptx/shared.cuh"
#include "kernels/ptx/tma.cuh"
#include "kernels/ptx/warpgroup.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/tile/float_panel.cuh"
#include "kernels/tile/online_softmax.cuh"
#include "kernels/tile/panel.cuh"
#include "kernels/tile/pipeline.cuh"
#include "ringtrain/backend/cuda_check.h"

/// Gradients of attention on wgmma. A block owns 128 keys of one key/value head, half of them per
/// consumer warpgroup, and walks the query tiles of one or all query heads that share the head; dK
/// and dV stay in registers. Scores are computed transposed, so that P and dS are born as register
/// operands of the products for dV and dK; dS also goes to shared memory for the product for dQ.
/// dQ goes through shared memory too, from where the copy engine adds it to global memory while the
/// warpgroups compute on. Bound by shared-memory bandwidth, then by the tensor cores.
namespace ringtrain::kernels {

/// kDocuments: rows see no key before params.lowest, so query tiles beyond it are skipped.
template <int kHeadDim_, bool kDocuments>
struct AttentionBackwardSm90 {
  static constexpr int kHeadDim = kHeadDim_;
  static_assert(kHeadDim == 64 || kHeadDim == 128);
  static constexpr int kConsumers = 2;
  static constexpr int kThreads = 128 * (1 + kConsumers);
  static constexpr int kProducerRegisters = 24;  // 24 + 2 x 240 = 3 x 168, the launch's
  static constexpr int kConsumerRegisters = 240;
  static constexpr int kWarpgroupKeys = 64;
  static constexpr int kKeyTile = kAttentionBackwardSm90KeyTile;
  static constexpr int kQueryTile = attention_backward_sm90_query_tile(kHeadDim);
  static constexpr int kStages = 2;

  using KeyTile = PanelTile<kKeyTile, kHeadDim>;
  using QueryTile = PanelTile<kQueryTile, kHeadDim>;
  using ScoreTile = PanelTile<kQueryTile, kKeyTile>;
  using DqueryTile = FloatPanelTile<64, 64>;  // of one warpgroup
  /// log2-scaled lse and delta of a query tile, and the first key that its rows see (documents).
  struct Statistics {
    float lse[kQueryTile];
    float delta[kQueryTile];
    int lowest[kQueryTile];
  };

  // Offsets in shared memory.
  static constexpr int kKeyAt = 0;
  static constexpr int kValueAt = kKeyAt + KeyTile::kBytes;
  static constexpr int kQueryAt = kValueAt + KeyTile::kBytes;
  static constexpr int kDoutAt = kQueryAt + kStages * QueryTile::kBytes;
  // dS twice: one warpgroup may write the next while the other still reads.
  static_assert(kStages == 2);
  static constexpr int kScoresAt = kDoutAt + kStages * QueryTile::kBytes;
  static constexpr int kDqueryAt = kScoresAt + 2 * ScoreTile::kBytes;
  static constexpr int kStatisticsAt = kDqueryAt + kConsumers * DqueryTile::kBytes;
  static constexpr int kWorkAt = kStatisticsAt + kStages * static_cast<int>(sizeof(Statistics));
  static constexpr int kWorkBytes = 32;
  static constexpr int kBarriersAt = kWorkAt + kWorkBytes;
  static constexpr int kSharedBytes = kPanelAlignment + kBarriersAt +
                                      2 * Pipeline<1>::kBarrierBytes +
                                      3 * Pipeline<kStages>::kBarrierBytes;
  static_assert(kSharedBytes <= 232448, "the shared memory of a block on sm_90");

  // Named barriers. dQ passes from a warpgroup to its adding warp: of each pair one id a warpgroup.
  static constexpr int kScoresBarrier = 1;
  static constexpr int kDqueryFullBarrier = 2;
  static constexpr int kDqueryEmptyBarrier = 4;
  static constexpr int kDqueryThreads = 128 + 32;

  struct Pipelines {
    Pipeline<1> key, value;
    Pipeline<kStages> query, dout, statistics;
    __device__ explicit Pipelines(std::uint32_t at)
        : key{at},
          value{key.barriers + Pipeline<1>::kBarrierBytes},
          query{value.barriers + Pipeline<1>::kBarrierBytes},
          dout{query.barriers + Pipeline<kStages>::kBarrierBytes},
          statistics{dout.barriers + Pipeline<kStages>::kBarrierBytes} {}
    __device__ void init() const {
      key.init(kConsumers);
      value.init(kConsumers);
      query.init(kConsumers);
      dout.init(kConsumers);
      statistics.init(kConsumers, 32);
    }
  };

  using Work = AttentionBackwardSm90Work<kQueryTile, kDocuments>;
  using Cursor = typename Work::Cursor;

  template <typename Tile>
  __device__ static void load(const CUtensorMap& map, std::uint32_t to, std::uint32_t barrier,
                              int row, int head, int batch) {
    for (int panel = 0; panel < Tile::kPanels; ++panel) {
      ptx::tma_load_4d(to + panel * Tile::kPanelBytes, &map, barrier, panel * kPanelColumns, row,
                       head, batch);
    }
  }

  /// One thread: loads keys and values once, then query and dout tiles as stages come free.
  __device__ static void produce(const AttentionBackwardSm90Params& params,
                                 const volatile Work& work, std::uint32_t shared) {
    const Pipelines pipes(shared + kBarriersAt);
    RingPosition<kStages> at;
    Cursor cursor(work);
    for (int step = 0; step < work.num_steps; ++step) {
      const int row = cursor.tile * kQueryTile;
      pipes.query.producer_acquire(at, QueryTile::kBytes);
      load<QueryTile>(params.query, shared + kQueryAt + at.stage * QueryTile::kBytes,
                      pipes.query.full(at.stage), row, cursor.head, work.batch);
      if (step == 0) {
        ptx::mbarrier_arrive_expect_tx(pipes.key.full(0), KeyTile::kBytes);
        load<KeyTile>(params.key, shared + kKeyAt, pipes.key.full(0), work.first_key, work.kv_head,
                      work.batch);
        ptx::mbarrier_arrive_expect_tx(pipes.value.full(0), KeyTile::kBytes);
        load<KeyTile>(params.value, shared + kValueAt, pipes.value.full(0), work.first_key,
                      work.kv_head, work.batch);
      }
      pipes.dout.producer_acquire(at, QueryTile::kBytes);
      load<QueryTile>(params.dout, shared + kDoutAt + at.stage * QueryTile::kBytes,
                      pipes.dout.full(at.stage), row, cursor.head, work.batch);
      at.advance();
      cursor.advance(work);
    }
  }

  /// One warp: lse and delta of every query tile. Rows that do not exist or see no key get
  /// lse = inf: their weights are 2^(s - inf) = 0.
  __device__ static void produce_statistics(const AttentionBackwardSm90Params& params,
                                            const volatile Work& work, std::uint32_t shared,
                                            Statistics* statistics) {
    const Pipelines pipes(shared + kBarriersAt);
    RingPosition<kStages> at;
    Cursor cursor(work);
    for (int step = 0; step < work.num_steps; ++step) {
      const std::int64_t row0 =
          (std::int64_t{work.batch} * params.query_heads + cursor.head) * params.query_tokens;
      pipes.statistics.producer_wait(at);
      Statistics& to = statistics[at.stage];
      for (int i = threadIdx.x % 32; i < kQueryTile; i += 32) {
        const int row = cursor.tile * kQueryTile + i;
        const bool exists = row < params.query_tokens;
        const float lse = exists ? params.lse[row0 + row] : -INFINITY;
        to.lse[i] = lse == -INFINITY ? INFINITY : lse * kLog2E;
        to.delta[i] = exists ? params.delta[row0 + row] : 0.0f;
        if constexpr (kDocuments) {
          to.lowest[i] = exists
                             ? params.lowest[std::int64_t{work.batch} * params.query_tokens + row]
                             : INT_MAX;
        }
      }
      ptx::mbarrier_arrive(pipes.statistics.full(at.stage));
      at.advance();
      cursor.advance(work);
    }
  }

  /// Of dQ a warpgroup computes a column panel at head_dim 128, else 64 rows.
  __device__ static int dquery_row(int warpgroup) { return kHeadDim == 128 ? 0 : warpgroup * 64; }
  __device__ static int dquery_column(int warpgroup) {
    return kHeadDim == 128 ? warpgroup * 64 : 0;
  }

  /// One warp for each consumer warpgroup: adds its parts of dQ to global memory as they come.
  __device__ static void add_query_gradients(const AttentionBackwardSm90Params& params,
                                             const volatile Work& work, std::uint32_t shared,
                                             int warpgroup) {
    const std::uint32_t dquery = shared + kDqueryAt + warpgroup * DqueryTile::kBytes;
    const bool is_elected = threadIdx.x % 32 == 0;
    const bool is_ordered = params.turns != nullptr;
    Cursor cursor(work);
    if (work.num_steps == 0) return;
    ptx::named_barrier_arrive(kDqueryEmptyBarrier + warpgroup, kDqueryThreads);
    for (int left = work.num_steps; left > 0; --left) {
      ptx::named_barrier_sync(kDqueryFullBarrier + warpgroup, kDqueryThreads);
      if (is_elected) {
        if (is_ordered) Work::wait_for_turn(params, work, cursor, warpgroup);
        for (int panel = 0; panel < DqueryTile::kPanels; ++panel) {
          ptx::tma_reduce_add_4d(&params.dquery, dquery + panel * DqueryTile::kPanelBytes,
                                 dquery_column(warpgroup) + panel * DqueryTile::kPanelColumns,
                                 cursor.tile * kQueryTile + dquery_row(warpgroup), cursor.head,
                                 work.batch);
        }
        ptx::bulk_commit_group();
        ptx::bulk_wait_group_read<0>();
      }
      __syncwarp();
      if (left > 1) ptx::named_barrier_arrive(kDqueryEmptyBarrier + warpgroup, kDqueryThreads);
      if (is_elected && is_ordered) {
        ptx::bulk_wait_group<0>();  // added, not only read
        Work::pass_turn(params, work, cursor, warpgroup);
      }
      __syncwarp();
      cursor.advance(work);
    }
    if (is_elected) ptx::bulk_wait_group<0>();
  }

  /// X^T = A B^T for this warpgroup's keys, contracted over head_dim; one group.
  __device__ static void issue_transposed_scores(float (&scores)[kQueryTile / 2],
                                                 const OperandDescriptor& keys,
                                                 const OperandDescriptor& queries) {
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      ptx::wgmma_m64k16<ptx::Major::kContraction, ptx::Major::kContraction>(
          scores, keys.at(KeyTile::column_step(k)), queries.at(QueryTile::column_step(k)), k != 0);
    }
    ptx::wgmma_commit_group();
  }

  /// gradient += weights^T . rows, contracted over the query tile; one group.
  __device__ static void issue_key_gradient(float (&gradient)[kHeadDim / 2],
                                            const std::uint32_t (&weights)[kQueryTile / 4],
                                            const OperandDescriptor& rows) {
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kQueryTile / 16; ++k) {
      ptx::wgmma_m64k16<ptx::Major::kOuter>(gradient, weights[4 * k], weights[4 * k + 1],
                                            weights[4 * k + 2], weights[4 * k + 3],
                                            rows.at(QueryTile::row_step(k)), 1);
    }
    ptx::wgmma_commit_group();
  }

  /// dQ = dS K: all 64 queries and half the columns (head_dim 128), or half of 128 queries.
  __device__ static void issue_query_gradient(float (&dquery)[32], const OperandDescriptor& dscores,
                                              const OperandDescriptor& keys) {
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kKeyTile / 16; ++k) {
      ptx::wgmma_m64k16<ptx::Major::kContraction, ptx::Major::kOuter>(
          dquery, dscores.at(ScoreTile::column_step(k)), keys.at(KeyTile::row_step(k)), k != 0);
    }
    ptx::wgmma_commit_group();
  }

  /// One consumer warpgroup.
  __device__ static void consume(const AttentionBackwardSm90Params& params,
                                 const volatile Work& work, std::uint32_t shared,
                                 const Statistics* statistics) {
    const Pipelines pipes(shared + kBarriersAt);
    RingPosition<kStages> at;
    Cursor cursor(work);
    const int warpgroup = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0) - 1;
    const int thread = threadIdx.x % 128;
    const int lane = thread % 32;
    const bool is_elected = thread == 0;
    const int row = thread / 32 * 16 + lane / 4;  // of two, the other 8 below
    const int column = lane % 4 * 2;
    const std::uint32_t staged_dquery = shared + kDqueryAt + warpgroup * DqueryTile::kBytes;
    const std::uint32_t own_rows = warpgroup * kWarpgroupKeys * kPanelRowBytes;
    const OperandDescriptor key = KeyTile::descriptor(shared + kKeyAt + own_rows);
    const OperandDescriptor value = KeyTile::descriptor(shared + kValueAt + own_rows);
    const OperandDescriptor key_columns = KeyTile::descriptor(
        shared + kKeyAt + dquery_column(warpgroup) / kPanelColumns * KeyTile::kPanelBytes);
    const std::uint32_t dscore_rows = dquery_row(warpgroup) * kPanelRowBytes;
    // Where this thread's part of dS^T goes, transposed, in the warpgroup's panel.
    const int store_row = lane / 16 * 8 + lane % 8;
    const int store_column = warpgroup * 64 + thread / 32 * 16 + lane / 8 % 2 * 8;

    const int key_row = work.first_key + warpgroup * kWarpgroupKeys + row;
    const int last_key = work.first_key + kKeyTile - 1;
    float dkey[kHeadDim / 2];
    float dvalue[kHeadDim / 2];
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) dkey[i] = dvalue[i] = 0.0f;

    if (work.num_steps > 0) {
      pipes.query.consumer_wait(at);
      wait_for_phase(pipes.key.full(0), 0);
      wait_for_phase(pipes.value.full(0), 0);
    }
    for (int left = work.num_steps; left > 0; --left) {
      const int tile_row = cursor.tile * kQueryTile;
      const OperandDescriptor query =
          QueryTile::descriptor(shared + kQueryAt + at.stage * QueryTile::kBytes);
      const OperandDescriptor dout =
          QueryTile::descriptor(shared + kDoutAt + at.stage * QueryTile::kBytes);
      const std::uint32_t dscores = shared + kScoresAt + at.stage * ScoreTile::kBytes;
      const Statistics& rows = statistics[at.stage];
      float scores[kQueryTile / 2];
      float dweights[kQueryTile / 2];
      issue_transposed_scores(scores, key, query);
      pipes.dout.consumer_wait(at);
      issue_transposed_scores(dweights, value, dout);
      pipes.statistics.consumer_wait(at);
      ptx::wgmma_wait_group<1>();
      if (tile_row < params.visible.first_row(last_key) ||
          tile_row + kQueryTile > params.visible.query_end) {
        const int first_row[2] = {params.visible.first_row(key_row),
                                  params.visible.first_row(key_row + 8)};
        mask_transposed(scores, first_row, params.visible.query_end, tile_row + column);
      }
      if constexpr (kDocuments) {
        if (rows.lowest[kQueryTile - 1] > work.first_key) {
          mask_documents(scores, rows.lowest + column, key_row);
        }
      }
#pragma unroll
      for (int j = 0; j < kQueryTile / 8; ++j) {
        const float2 lse = *reinterpret_cast<const float2*>(&rows.lse[8 * j + column]);
        scores[4 * j] = ptx::ex2(fmaf(scores[4 * j], params.scale_log2, -lse.x));
        scores[4 * j + 1] = ptx::ex2(fmaf(scores[4 * j + 1], params.scale_log2, -lse.y));
        scores[4 * j + 2] = ptx::ex2(fmaf(scores[4 * j + 2], params.scale_log2, -lse.x));
        scores[4 * j + 3] = ptx::ex2(fmaf(scores[4 * j + 3], params.scale_log2, -lse.y));
      }
      RingPosition<kStages> next = at;
      next.advance();
      // This wait also keeps the compiler from moving the next above the exponentials.
      if (left > 1) pipes.query.consumer_wait(next);
      ptx::wgmma_wait_group<0>();
#pragma unroll
      for (int j = 0; j < kQueryTile / 8; ++j) {
        const float2 delta = *reinterpret_cast<const float2*>(&rows.delta[8 * j + column]);
        dweights[4 * j] = scores[4 * j] * (dweights[4 * j] - delta.x);
        dweights[4 * j + 1] = scores[4 * j + 1] * (dweights[4 * j + 1] - delta.y);
        dweights[4 * j + 2] = scores[4 * j + 2] * (dweights[4 * j + 2] - delta.x);
        dweights[4 * j + 3] = scores[4 * j + 3] * (dweights[4 * j + 3] - delta.y);
      }
      std::uint32_t packed[kQueryTile / 4];
      std::uint32_t dpacked[kQueryTile / 4];
      pack_operand(packed, scores);
      pack_operand(dpacked, dweights);
#pragma unroll
      for (int k = 0; k < kQueryTile / 16; ++k) {
        ptx::stmatrix_x4_trans(dscores + ScoreTile::offset(16 * k + store_row, store_column),
                               dpacked[4 * k], dpacked[4 * k + 1], dpacked[4 * k + 2],
                               dpacked[4 * k + 3]);
      }
      issue_key_gradient(dvalue, packed, dout);
      ptx::fence_proxy_async_shared();
      ptx::named_barrier_sync(kScoresBarrier, 128 * kConsumers);
      if (is_elected) pipes.statistics.consumer_release(at);
      float dquery[32];
      issue_query_gradient(dquery, ScoreTile::descriptor(dscores + dscore_rows), key_columns);
      ptx::wgmma_wait_group<1>();
      if (is_elected) pipes.dout.consumer_release(at);
      issue_key_gradient(dkey, dpacked, query);
      ptx::wgmma_wait_group<1>();
      ptx::named_barrier_sync(kDqueryEmptyBarrier + warpgroup, kDqueryThreads);
      store_query_gradient(staged_dquery, dquery, params.softmax_scale, row, column);
      ptx::fence_proxy_async_shared();
      ptx::named_barrier_arrive(kDqueryFullBarrier + warpgroup, kDqueryThreads);
      ptx::wgmma_wait_group<0>();
      if (is_elected) pipes.query.consumer_release(at);
      at = next;
      cursor.advance(work);
    }
    put_key_gradient(params, dvalue, params.dvalue, 1.0f, work, key_row, column);
    put_key_gradient(params, dkey, params.dkey, params.softmax_scale, work, key_row, column);
  }

  /// Scores of X^T outside [first_row, end_row) become -inf; `query_row` is of the first column.
  __device__ static void mask_transposed(float (&scores)[kQueryTile / 2], const int (&first_row)[2],
                                         int end_row, int query_row) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int skipped = first_row[i] - query_row;
      const auto visible = static_cast<unsigned>(max(0, end_row - first_row[i]));
#pragma unroll
      for (int j = 0; j < kQueryTile / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = scores[4 * j + 2 * i + e];
          score = static_cast<unsigned>(8 * j + e - skipped) < visible ? score : -INFINITY;
        }
      }
    }
  }

  /// Scores of X^T whose query row sees no key before `lowest` become -inf; lowest[0] is of this
  /// thread's first column.
  __device__ static void mask_documents(float (&scores)[kQueryTile / 2], const int* lowest,
                                        int key) {
#pragma unroll
    for (int j = 0; j < kQueryTile / 8; ++j) {
      const int2 first = *reinterpret_cast<const int2*>(lowest + 8 * j);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float* pair = scores + 4 * j + 2 * i;
        if (first.x > key + 8 * i) pair[0] = -INFINITY;
        if (first.y > key + 8 * i) pair[1] = -INFINITY;
      }
    }
  }

  /// This thread's part of scale * dQ to the warpgroup's panels. The swizzle moves neighbouring
  /// rows within the same 32 bytes: odd rows store another column block, so that no banks collide.
  __device__ static void store_query_gradient(std::uint32_t to, const float (&dquery)[32],
                                              float scale, int row, int column) {
    const bool is_odd = row % 2 == 1;
    const std::uint32_t other_block = is_odd ? 2 * 8 * sizeof(float) : 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float* even = dquery + 4 * j + 2 * i;
        const float* odd = dquery + 4 * (j ^ 2) + 2 * i;
        const std::uint32_t at = DqueryTile::offset(row + 8 * i, 8 * j + column) ^ other_block;
        ptx::st_shared_v2(to + at, scale * (is_odd ? odd[0] : even[0]),
                          scale * (is_odd ? odd[1] : even[1]));
      }
    }
  }

  /// Writes the rows of this block's keys, or adds to them: by itself, or where blocks of other
  /// query heads add too, by the slower reductions of L2.
  __device__ static void put_key_gradient(const AttentionBackwardSm90Params& params,
                                          const float (&gradient)[kHeadDim / 2], void* out,
                                          float scale, const volatile Work& work, int key_row,
                                          int column) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int k = key_row + 8 * i;
      if (k >= params.visible.key_count) continue;
      const std::int64_t at =
          ((std::int64_t{work.batch} * params.key_tokens + k) * params.kv_heads + work.kv_head) *
              params.head_dim +
          column;
      const bool adds = params.key_gradient == KeyGradient::kAdd;
      float2 before[kHeadDim / 8];  // all of the row under way at once
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
        before[j] = adds && params.is_only_owner && 8 * j < params.head_dim
                        ? *reinterpret_cast<const float2*>(static_cast<float*>(out) + at + 8 * j)
                        : make_float2(0.0f, 0.0f);
      }
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
        if (8 * j >= params.head_dim) break;
        const float x = scale * gradient[4 * j + 2 * i];
        const float y = scale * gradient[4 * j + 2 * i + 1];
        if (params.key_gradient == KeyGradient::kRoundAndWrite) {
          auto* const to = static_cast<__nv_bfloat16*>(out) + at + 8 * j;
          *reinterpret_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(x, y);
          continue;
        }
        float* const to = static_cast<float*>(out) + at + 8 * j;
        if (!adds || params.is_only_owner) {
          *reinterpret_cast<float2*>(to) = make_float2(before[j].x + x, before[j].y + y);
        } else {
          ptx::red_add_v2(to, x, y);
        }
      }
    }
  }
};

template <int kHeadDim, bool kDocuments>
__global__ void __launch_bounds__(AttentionBackwardSm90<kHeadDim, kDocuments>::kThreads, 1)
    attention_backward_sm90_kernel(const __grid_constant__ AttentionBackwardSm90Params params) {
  using Kernel = AttentionBackwardSm90<kHeadDim, kDocuments>;
  static_assert(sizeof(typename Kernel::Work) <= Kernel::kWorkBytes);
  extern __shared__ std::uint8_t raw_shared[];
  const auto raw = static_cast<std::uint32_t>(__cvta_generic_to_shared(raw_shared));
  const std::uint32_t shared = (raw + kPanelAlignment - 1) / kPanelAlignment * kPanelAlignment;
  auto* statistics = reinterpret_cast<typename Kernel::Statistics*>(raw_shared + (shared - raw) +
                                                                    Kernel::kStatisticsAt);
  auto* const shared_work =
      reinterpret_cast<typename Kernel::Work*>(raw_shared + (shared - raw) + Kernel::kWorkAt);
  if (threadIdx.x < 32) {
    const typename Kernel::Work work(params);
    if (threadIdx.x == 0) *shared_work = work;
  }
  if (threadIdx.x == 0) {
    const typename Kernel::Pipelines pipes(shared + Kernel::kBarriersAt);
    pipes.init();
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const volatile typename Kernel::Work& work = *shared_work;
  if (work.num_steps == 0 && params.key_gradient == KeyGradient::kAdd) return;
  if (threadIdx.x < 128) {
    ptx::setmaxnreg_dec<Kernel::kProducerRegisters>();
    if (threadIdx.x == 0) {
      Kernel::produce(params, work, shared);
    } else if (threadIdx.x / 32 == 1) {
      Kernel::produce_statistics(params, work, shared, statistics);
    } else if (threadIdx.x >= 64) {
      Kernel::add_query_gradients(params, work, shared, static_cast<int>(threadIdx.x) / 32 - 2);
    }
  } else {
    ptx::setmaxnreg_inc<Kernel::kConsumerRegisters>();
    Kernel::consume(params, work, shared, statistics);
  }
}

template <int kHeadDim, bool kDocuments>
void run_attention_backward_sm90(const AttentionBackwardSm90Params& params, cudaStream_t stream) {
  using Kernel = AttentionBackwardSm90<kHeadDim, kDocuments>;
  const auto kernel = attention_backward_sm90_kernel<kHeadDim, kDocuments>;
  RT_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     Kernel::kSharedBytes));
  kernel<<<static_cast<unsigned>(params.order.num_items), Kernel::kThreads, Kernel::kSharedBytes,
           stream>>>(params);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
