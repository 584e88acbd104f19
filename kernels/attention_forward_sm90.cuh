#pragma once

#include <cstdint>

#include "kernels/attention_forward_sm90_params.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/tma.cuh"
#include "kernels/ptx/warpgroup.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/tile/online_softmax.cuh"
#include "kernels/tile/panel.cuh"
#include "kernels/tile/pipeline.cuh"
#include "ringtrain/backend/cuda_check.h"

/// Attention forward on wgmma. A persistent block per SM: one producer warpgroup loads tiles by the
/// copy engine, the consumer warpgroups own 64 query rows each. In every step the scores of the
/// next key tile (S = Q K^T) are on the tensor cores together with the products of this one
/// (O += P V), and the softmax of S runs behind the latter. The next tile's Q, K and V arrive
/// while this one's output is written. Bound by the tensor cores and their power; head_dim 64 by
/// exponentials as much.
namespace ringtrain::kernels {

/// kDocuments: rows see no key before params.lowest, so key tiles before it are skipped.
template <int kHeadDim_, bool kDocuments>
struct AttentionForwardSm90 {
  static constexpr int kHeadDim = kHeadDim_;
  static_assert(kHeadDim == 64 || kHeadDim == 128);
  static constexpr AttentionForwardSm90Tiles kTiles = attention_forward_sm90_tiles(kHeadDim);
  static constexpr int kConsumers = kTiles.consumers;
  static constexpr int kThreads = 128 * (1 + kConsumers);
  static constexpr int kWarpgroupRows = 64;
  static constexpr int kQueryTile = kTiles.query_tile();
  static constexpr int kKeyTile = kTiles.key_tile;
  static constexpr int kStages = kTiles.stages;

  using QueryTile = PanelTile<kQueryTile, kHeadDim>;
  using KeyTile = PanelTile<kKeyTile, kHeadDim>;
  using OutTile = PanelTile<kWarpgroupRows, kHeadDim>;  // of one warpgroup

  /// What the producer tells the consumers.
  struct alignas(32) WorkItem {
    KeyTiles tiles;
    int first_row;
    int head;  // query head
    int batch;
    int has_work;  // 0: no more items
  };

  // Offsets in shared memory.
  static constexpr int kQueryAt = 0;
  static constexpr int kKeyAt = kQueryAt + QueryTile::kBytes;
  static constexpr int kValueAt = kKeyAt + kStages * KeyTile::kBytes;
  static constexpr int kOutAt = kValueAt + kStages * KeyTile::kBytes;
  static constexpr int kItemsAt = kOutAt + kConsumers * OutTile::kBytes;
  static constexpr int kItems = 2;  // one being worked on, one ahead
  static constexpr int kBarriersAt = kItemsAt + kItems * static_cast<int>(sizeof(WorkItem));
  static constexpr int kSharedBytes = kPanelAlignment + kBarriersAt +
                                      Pipeline<kItems>::kBarrierBytes + Pipeline<1>::kBarrierBytes +
                                      2 * Pipeline<kStages>::kBarrierBytes;
  static_assert(kSharedBytes <= 232448, "the shared memory of a block on sm_90");

  struct Pipelines {
    Pipeline<kItems> item;
    Pipeline<1> query;
    Pipeline<kStages> key, value;
    __device__ explicit Pipelines(std::uint32_t at)
        : item{at},
          query{at + Pipeline<kItems>::kBarrierBytes},
          key{query.barriers + Pipeline<1>::kBarrierBytes},
          value{key.barriers + Pipeline<kStages>::kBarrierBytes} {}
    __device__ void init() const {
      item.init(kConsumers * 4);  // every warp reads the item
      query.init(kConsumers);
      key.init(kConsumers);
      value.init(kConsumers);
    }
  };

  /// One thread: takes items and loads their tiles, as far ahead as the stages allow.
  __device__ static void produce(const AttentionForwardSm90Params& params, std::uint32_t shared,
                                 volatile WorkItem* items) {
    const Pipelines pipes(shared + kBarriersAt);
    RingPosition<kItems> item_at;
    RingPosition<1> query_at;
    RingPosition<kStages> key_at, value_at;
    int item = blockIdx.x;
    while (item < params.order.num_items) {
      const int next_item = params.counter->take();
      const TileOrder::Tile tile = params.order.at(item);
      item = next_item;
      // The last rows see most keys.
      const int first_row = (params.order.num_tiles - 1 - tile.rank) * kQueryTile;
      const int batch = tile.head / params.query_heads;
      const int* lowest =
          kDocuments ? params.lowest + std::int64_t{batch} * params.query_tokens : nullptr;
      const KeyTiles tiles =
          key_tiles<kQueryTile, kKeyTile>(params.visible, lowest, first_row, params.query_tokens);
      if (tiles.empty() && !params.first && !params.last) continue;  // the state stays
      const int head = tile.head - batch * params.query_heads;

      pipes.item.producer_wait(item_at);
      volatile WorkItem& told = items[item_at.stage];
      told.first_row = first_row;
      told.head = head;
      told.batch = batch;
      told.tiles.begin = tiles.begin;
      told.tiles.plain_begin = tiles.plain_begin;
      told.tiles.plain_end = tiles.plain_end;
      told.tiles.end = tiles.end;
      told.has_work = 1;
      ptx::mbarrier_arrive(pipes.item.full(item_at.stage));
      item_at.advance();
      if (tiles.empty()) continue;

      const int kv_head = head / params.heads_per_kv_head;
      pipes.query.producer_acquire(query_at, QueryTile::kBytes);
      for (int panel = 0; panel < QueryTile::kPanels; ++panel) {
        ptx::tma_load_4d(shared + kQueryAt + panel * QueryTile::kPanelBytes, &params.query,
                         pipes.query.full(0), panel * kPanelColumns, first_row, head, batch);
      }
      query_at.advance();

      const auto load = [&](const CUtensorMap& map, const Pipeline<kStages>& pipe,
                            RingPosition<kStages>& at, std::uint32_t stages, int key_tile) {
        pipe.producer_acquire(at, KeyTile::kBytes);
        const std::uint32_t to = stages + at.stage * KeyTile::kBytes;
        for (int panel = 0; panel < KeyTile::kPanels; ++panel) {
          ptx::tma_load_4d(to + panel * KeyTile::kPanelBytes, &map, pipe.full(at.stage),
                           panel * kPanelColumns, key_tile * kKeyTile, kv_head, batch);
        }
        at.advance();
      };
      // Values are wanted one step after the keys of their tile.
      for (int t = tiles.end - 1; t >= tiles.begin - 1; --t) {
        if (t >= tiles.begin) load(params.key, pipes.key, key_at, shared + kKeyAt, t);
        if (t + 1 < tiles.end) {
          load(params.value, pipes.value, value_at, shared + kValueAt, t + 1);
        }
      }
    }
    pipes.item.producer_wait(item_at);
    items[item_at.stage].has_work = 0;
    ptx::mbarrier_arrive(pipes.item.full(item_at.stage));
    params.counter->finish();
  }

  /// The queries of a warpgroup as left operand of the scores: in registers where there is room,
  /// which leaves the reading of shared memory to the keys.
  class Query {
   public:
    static constexpr bool kInRegisters = kHeadDim == 128;

    /// `rows`: the address of the first one, which has arrived.
    __device__ Query(std::uint32_t rows, int thread) : shared_(QueryTile::descriptor(rows)) {
      if constexpr (kInRegisters) {
        const int row = thread / 32 * 16 + thread % 16;
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
          const std::uint32_t at = rows + QueryTile::offset(row, 16 * k + thread % 32 / 16 * 8);
          ptx::ldmatrix_x4(registers_[k],
                           reinterpret_cast<const void*>(__cvta_shared_to_generic(at)));
        }
      }
    }

    /// S = Q K^T, one group.
    __device__ void issue_scores(float (&scores)[kKeyTile / 2],
                                 const OperandDescriptor& key) const {
      ptx::wgmma_fence();
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        const std::uint64_t columns = key.at(KeyTile::column_step(k));
        if constexpr (kInRegisters) {
          const auto& a = registers_[k];
          ptx::wgmma_m64k16<ptx::Major::kContraction>(scores, a[0], a[1], a[2], a[3], columns,
                                                      k != 0);
        } else {
          ptx::wgmma_m64k16<ptx::Major::kContraction, ptx::Major::kContraction>(
              scores, shared_.at(QueryTile::column_step(k)), columns, k != 0);
        }
      }
      ptx::wgmma_commit_group();
    }

   private:
    static constexpr int kSteps = kHeadDim / 16;
    OperandDescriptor shared_;
    std::uint32_t registers_[kSteps][4];
  };

  /// O += P V, one group.
  __device__ static void issue_output(float (&out)[kHeadDim / 2],
                                      const std::uint32_t (&weights)[kKeyTile / 4],
                                      const OperandDescriptor& value) {
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kKeyTile / 16; ++k) {
      ptx::wgmma_m64k16<ptx::Major::kOuter>(out, weights[4 * k], weights[4 * k + 1],
                                            weights[4 * k + 2], weights[4 * k + 3],
                                            value.at(KeyTile::row_step(k)), 1);
    }
    ptx::wgmma_commit_group();
  }

  /// One consumer warpgroup: folds the key tiles of every item into its 64 rows.
  __device__ static void consume(const AttentionForwardSm90Params& params, std::uint32_t shared,
                                 const volatile WorkItem* items) {
    const Pipelines pipes(shared + kBarriersAt);
    RingPosition<kItems> item_at;
    RingPosition<1> query_at;
    RingPosition<kStages> value_at;  // keys are as far, and in a step one tile ahead
    const int warpgroup = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0) - 1;
    const int thread = threadIdx.x % 128;
    const int lane = thread % 32;
    const bool is_elected = thread == 0;
    // This thread's two rows in the query tile, and its first column in a key or head tile.
    const int row = warpgroup * kWarpgroupRows + thread / 32 * 16 + lane / 4;
    const int column = lane % 4 * 2;
    const std::uint32_t query_rows =
        shared + kQueryAt + warpgroup * kWarpgroupRows * kPanelRowBytes;
    const std::uint32_t out_shared = shared + kOutAt + warpgroup * OutTile::kBytes;

    while (true) {
      pipes.item.consumer_wait(item_at);
      // Read again after the loop over key tiles: registers are short while it runs.
      const volatile WorkItem& item = items[item_at.stage];
      if (item.has_work == 0) break;
      const auto uniform = [](int value) { return __shfl_sync(0xffffffffu, value, 0); };
      const int begin = kDocuments ? uniform(item.tiles.begin) : 0;
      const int plain_end = uniform(item.tiles.plain_end);
      const int end = uniform(item.tiles.end);
      SoftmaxRows softmax;
      float out[kHeadDim / 2];
      begin_rows(params, softmax, out, Rows(params, item, row), column);

      if (begin < end) {
        const int limit[2] = {params.visible.limit(item.first_row + row),
                              params.visible.limit(item.first_row + row + 8)};
        int lowest[2] = {0, 0};
        if constexpr (kDocuments) {
          for (int i = 0; i < 2; ++i) {
            const int query_row = item.first_row + row + 8 * i;
            if (query_row >= params.query_tokens) continue;
            lowest[i] = params.lowest[std::int64_t{item.batch} * params.query_tokens + query_row];
          }
        }
        const int plain_begin = kDocuments ? uniform(item.tiles.plain_begin) : 0;
        const auto key_operand = [&](const RingPosition<kStages>& at) {
          return KeyTile::descriptor(shared + kKeyAt + at.stage * KeyTile::kBytes);
        };
        const auto value_operand = [&] {
          return KeyTile::descriptor(shared + kValueAt + value_at.stage * KeyTile::kBytes);
        };
        const auto next = [](RingPosition<kStages> at) {
          at.advance();
          return at;
        };
        float scores[kKeyTile / 2];
        std::uint32_t weights[kKeyTile / 4];
        float correction[2];
        int tile = end - 1;

        pipes.query.consumer_wait(query_at);
        const Query query(query_rows, thread);
        pipes.key.consumer_wait(value_at);
        query.issue_scores(scores, key_operand(value_at));
        ptx::wgmma_wait_group<0>();
        if (is_elected) pipes.key.consumer_release(value_at);
        const auto mask = [&] {
          if constexpr (kDocuments) {
            if (tile >= plain_begin && tile < plain_end) return;
            mask_scores(scores, lowest, limit, tile * kKeyTile + column);
          } else {
            mask_scores(scores, limit, tile * kKeyTile + column);
          }
        };
        if (tile >= plain_end || tile < plain_begin) mask();
        softmax.template fold<true>(scores, params.scale_log2, correction);
        if (!params.first) scale_rows(out, correction);
        pack_operand(weights, scores);

        // Entered with the keys of `tile` there.
        const auto step = [&]<bool kMasked>() {
          const RingPosition<kStages> key_at = next(value_at);
          query.issue_scores(scores, key_operand(key_at));
          pipes.value.consumer_wait(value_at);
          issue_output(out, weights, value_operand());
          ptx::wgmma_wait_group<1>();
          if (is_elected) pipes.key.consumer_release(key_at);
          if constexpr (kMasked) mask();
          softmax.template fold<kMasked>(scores, params.scale_log2, correction);
          // This wait also keeps the compiler from moving the next above the exponentials.
          if (tile > begin) pipes.key.consumer_wait(next(key_at));
          ptx::wgmma_wait_group<0>();
          if (is_elected) pipes.value.consumer_release(value_at);
          value_at.advance();
          scale_rows(out, correction);
          pack_operand(weights, scores);
        };
        if (tile > begin) pipes.key.consumer_wait(next(value_at));
        // Documents end anywhere: one body, and the mask where it is wanted.
        for (--tile; tile >= (kDocuments ? begin : plain_end); --tile) {
          step.template operator()<true>();
        }
        if constexpr (!kDocuments) {
          for (; tile >= 0; --tile) step.template operator()<false>();
        }

        if (is_elected) pipes.query.consumer_release(query_at);
        query_at.advance();
        pipes.value.consumer_wait(value_at);
        issue_output(out, weights, value_operand());
        ptx::wgmma_wait_group<0>();
        if (is_elected) pipes.value.consumer_release(value_at);
        value_at.advance();
      }

      const Rows rows(params, item, row);
      const int out_row = item.first_row + warpgroup * kWarpgroupRows;
      const int head = item.head;
      const int batch = item.batch;
      __syncwarp();
      if (lane == 0) pipes.item.consumer_release(item_at);
      item_at.advance();
      finish_rows(params, softmax, out, rows, lane);
      if (params.last) {
        store_out(params, out, out_shared, warpgroup, thread, out_row, head, batch);
      } else {
        store_partial(params, out, rows, column);
      }
    }
    if (is_elected) ptx::bulk_wait_group<0>();
  }

  /// Where a thread's two rows, r and r + 8, are in global memory.
  struct Rows {
    std::int64_t lse;      // index of the first; the second's is 8 more
    std::int64_t partial;  // index of its first element; the second's is partial_step more
    std::int64_t partial_step;
    bool exists[2];
    __device__ Rows(const AttentionForwardSm90Params& params, const volatile WorkItem& item,
                    int row) {
      const std::int64_t batch = item.batch;
      const int head = item.head;
      const int query_row = item.first_row + row;
      lse = (batch * params.query_heads + head) * params.query_tokens + query_row;
      partial =
          ((batch * params.query_tokens + query_row) * params.query_heads + head) * params.head_dim;
      partial_step = std::int64_t{8} * params.query_heads * params.head_dim;
      exists[0] = query_row < params.query_tokens;
      exists[1] = query_row + 8 < params.query_tokens;
    }
  };

  /// The state before this step: empty, or one column of weight 2^lse that has `partial` as value.
  __device__ static void begin_rows(const AttentionForwardSm90Params& params, SoftmaxRows& softmax,
                                    float (&out)[kHeadDim / 2], const Rows& rows, int column) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      softmax.maximum[i] = -INFINITY;
      softmax.sum[i] = 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kHeadDim / 2; ++j) out[j] = 0.0f;
    if (params.first) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!rows.exists[i]) continue;
      const float* from = params.partial + rows.partial + i * rows.partial_step + column;
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
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
  __device__ static void finish_rows(const AttentionForwardSm90Params& params,
                                     const SoftmaxRows& softmax, float (&out)[kHeadDim / 2],
                                     const Rows& rows, int lane) {
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

  __device__ static void store_partial(const AttentionForwardSm90Params& params,
                                       const float (&out)[kHeadDim / 2], const Rows& rows,
                                       int column) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!rows.exists[i]) continue;
      float* to = params.partial + rows.partial + i * rows.partial_step + column;
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
        if (8 * j >= params.head_dim) break;
        *reinterpret_cast<float2*>(to + 8 * j) =
            make_float2(out[4 * j + 2 * i], out[4 * j + 2 * i + 1]);
      }
    }
  }

  /// Through shared memory of its own, so that the next item's loads need not wait.
  __device__ static void store_out(const AttentionForwardSm90Params& params,
                                   const float (&out)[kHeadDim / 2], std::uint32_t shared,
                                   int warpgroup, int thread, int first_row, int head, int batch) {
    const int barrier = 1 + warpgroup;
    if (thread == 0) ptx::bulk_wait_group_read<0>();  // the last item's store
    ptx::named_barrier_sync(barrier, 128);
    std::uint32_t packed[kHeadDim / 4];
    pack_operand(packed, out);
    const int lane = thread % 32;
    const int row = thread / 32 * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      const std::uint32_t to = shared + OutTile::offset(row, 16 * k + lane / 16 * 8);
      ptx::stmatrix_x4(to, packed[4 * k], packed[4 * k + 1], packed[4 * k + 2], packed[4 * k + 3]);
    }
    ptx::fence_proxy_async_shared();
    ptx::named_barrier_sync(barrier, 128);
    if (thread != 0) return;
    for (int panel = 0; panel < OutTile::kPanels; ++panel) {
      ptx::tma_store_4d(&params.out, shared + panel * OutTile::kPanelBytes, panel * kPanelColumns,
                        first_row, head, batch);
    }
    ptx::bulk_commit_group();
  }
};

template <int kHeadDim, bool kDocuments>
__global__ void __launch_bounds__(AttentionForwardSm90<kHeadDim, kDocuments>::kThreads, 1)
    attention_forward_sm90_kernel(const __grid_constant__ AttentionForwardSm90Params params) {
  using Kernel = AttentionForwardSm90<kHeadDim, kDocuments>;
  extern __shared__ std::uint8_t raw_shared[];
  const auto raw = static_cast<std::uint32_t>(__cvta_generic_to_shared(raw_shared));
  const std::uint32_t shared = (raw + kPanelAlignment - 1) / kPanelAlignment * kPanelAlignment;
  auto* items = reinterpret_cast<volatile typename Kernel::WorkItem*>(raw_shared + (shared - raw) +
                                                                      Kernel::kItemsAt);
  if (threadIdx.x == 0) {
    const typename Kernel::Pipelines pipes(shared + Kernel::kBarriersAt);
    pipes.init();
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensormap(&params.query);
    ptx::prefetch_tensormap(&params.key);
    ptx::prefetch_tensormap(&params.value);
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    ptx::setmaxnreg_dec<Kernel::kTiles.producer_registers>();
    if (threadIdx.x == 0) Kernel::produce(params, shared, items);
  } else {
    ptx::setmaxnreg_inc<Kernel::kTiles.consumer_registers>();
    Kernel::consume(params, shared, items);
  }
}

template <int kHeadDim, bool kDocuments>
void run_attention_forward_sm90(const AttentionForwardSm90Params& params, int blocks,
                                cudaStream_t stream) {
  using Kernel = AttentionForwardSm90<kHeadDim, kDocuments>;
  const auto kernel = attention_forward_sm90_kernel<kHeadDim, kDocuments>;
  RT_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     Kernel::kSharedBytes));
  kernel<<<static_cast<unsigned>(blocks), Kernel::kThreads, Kernel::kSharedBytes, stream>>>(params);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
