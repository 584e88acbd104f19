#pragma once

#include <cstdint>

#include "kernels/attention_forward_sm90_consumer.cuh"
#include "kernels/attention_forward_sm90_layout.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/ptx/tma.cuh"
#include "kernels/ptx/warpgroup.cuh"
#include "ringtrain/backend/cuda_check.h"

/// Attention forward on wgmma. A persistent block per SM: one producer warpgroup loads tiles by the
/// copy engine, the consumer warpgroups own 64 query rows each. In every step the scores of the
/// next key tile (S = Q K^T) are on the tensor cores together with the products of this one
/// (O += P V); the warpgroups take turns, so that the softmax of one runs behind the products of
/// the others. The next tile's Q, K and V arrive meanwhile. Bound by the tensor cores and their
/// power; head_dim 64 by exponentials as much.
namespace ringtrain::kernels {

/// One thread: takes items and loads their tiles, as far ahead as the stages allow. kDocuments:
/// rows see no key before params.lowest, so key tiles before it are skipped.
template <int kHeadDim, bool kDocuments>
__device__ void produce_attention_forward_sm90(
    const AttentionForwardSm90Params& params, std::uint32_t shared,
    volatile typename AttentionForwardSm90Layout<kHeadDim>::WorkItem* items) {
  using Layout = AttentionForwardSm90Layout<kHeadDim>;
  using QueryTile = typename Layout::QueryTile;
  using KeyTile = typename Layout::KeyTile;
  constexpr int kStages = Layout::kStages;
  const typename Layout::Pipelines pipes(shared + Layout::kBarriersAt);
  RingPosition<Layout::kItems> item_at;
  RingPosition<Layout::kQueryStages> query_at;
  RingPosition<kStages> key_at, value_at;
  int item = params.counter->take();
  while (item < params.order.num_items) {
    const int next_item = params.counter->take();
    const TileOrder::Tile tile = params.order.at(item);
    item = next_item;
    // The last rows see most keys.
    const int first_row = (params.order.num_tiles - 1 - tile.rank) * Layout::kQueryTile;
    const int batch = tile.head / params.num_heads;
    const int* lowest =
        kDocuments ? params.lowest + std::int64_t{batch} * params.query_tokens : nullptr;
    const KeyTiles tiles = key_tiles<Layout::kQueryTile, Layout::kKeyTile>(
        params.visible, lowest, first_row, params.query_tokens);
    if (tiles.empty() && !params.first && !params.last) continue;  // the state stays
    const int head = params.first_head + tile.head - batch * params.num_heads;

    pipes.item.producer_wait(item_at);
    volatile auto& told = items[item_at.stage];
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
    const std::uint32_t queries = shared + Layout::kQueryAt + query_at.stage * QueryTile::kBytes;
    for (int panel = 0; panel < QueryTile::kPanels; ++panel) {
      ptx::tma_load_4d(queries + panel * QueryTile::kPanelBytes, &params.query,
                       pipes.query.full(query_at.stage), panel * kPanelColumns, first_row, head,
                       batch);
    }
    query_at.advance();

    const auto load = [&](const CUtensorMap& map, const Pipeline<kStages>& pipe,
                          RingPosition<kStages>& at, std::uint32_t stages, int key_tile) {
      pipe.producer_acquire(at, KeyTile::kBytes);
      const std::uint32_t to = stages + at.stage * KeyTile::kBytes;
      for (int panel = 0; panel < KeyTile::kPanels; ++panel) {
        ptx::tma_load_4d(to + panel * KeyTile::kPanelBytes, &map, pipe.full(at.stage),
                         panel * kPanelColumns, key_tile * Layout::kKeyTile, kv_head, batch);
      }
      at.advance();
    };
    // Values are wanted one step after the keys of their tile.
    for (int t = tiles.end - 1; t >= tiles.begin - 1; --t) {
      if (t >= tiles.begin) load(params.key, pipes.key, key_at, shared + Layout::kKeyAt, t);
      if (t + 1 < tiles.end) {
        load(params.value, pipes.value, value_at, shared + Layout::kValueAt, t + 1);
      }
    }
  }
  pipes.item.producer_wait(item_at);
  items[item_at.stage].has_work = 0;
  ptx::mbarrier_arrive(pipes.item.full(item_at.stage));
  params.counter->finish();
}

template <int kHeadDim, bool kDocuments>
__global__ void __launch_bounds__(AttentionForwardSm90Layout<kHeadDim>::kThreads, 1)
    attention_forward_sm90_kernel(const __grid_constant__ AttentionForwardSm90Params params) {
  using Layout = AttentionForwardSm90Layout<kHeadDim>;
  extern __shared__ std::uint8_t raw_shared[];
  const auto raw = static_cast<std::uint32_t>(__cvta_generic_to_shared(raw_shared));
  const std::uint32_t shared = (raw + kPanelAlignment - 1) / kPanelAlignment * kPanelAlignment;
  auto* items = reinterpret_cast<volatile typename Layout::WorkItem*>(raw_shared + (shared - raw) +
                                                                      Layout::kItemsAt);
  if (threadIdx.x == 0) {
    const typename Layout::Pipelines pipes(shared + Layout::kBarriersAt);
    pipes.init();
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensormap(&params.query);
    ptx::prefetch_tensormap(&params.key);
    ptx::prefetch_tensormap(&params.value);
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    ptx::setmaxnreg_dec<Layout::kTiles.producer_registers>();
    if (threadIdx.x == 0) {
      produce_attention_forward_sm90<kHeadDim, kDocuments>(params, shared, items);
    }
  } else {
    ptx::setmaxnreg_inc<Layout::kTiles.consumer_registers>();
    AttentionForwardSm90Consumer<kHeadDim, kDocuments>(params, shared, items).run();
  }
}

template <int kHeadDim, bool kDocuments>
void run_attention_forward_sm90(const AttentionForwardSm90Params& params, int blocks,
                                cudaStream_t stream) {
  using Layout = AttentionForwardSm90Layout<kHeadDim>;
  const auto kernel = attention_forward_sm90_kernel<kHeadDim, kDocuments>;
  RT_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     Layout::kSharedBytes));
  kernel<<<static_cast<unsigned>(blocks), Layout::kThreads, Layout::kSharedBytes, stream>>>(params);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
