#pragma once

#include <cstdint>

#include "kernels/attention_forward_sm90_params.cuh"
#include "kernels/tile/panel.cuh"
#include "kernels/tile/pipeline.cuh"

namespace ringtrain::kernels {

/// What lies where in the shared memory of a block of attention_forward_sm90, and the pipelines
/// between its producer and its consumers.
template <int kHeadDim_>
struct AttentionForwardSm90Layout {
  static constexpr int kHeadDim = kHeadDim_;
  static_assert(kHeadDim == 64 || kHeadDim == 128);
  static constexpr AttentionForwardSm90Tiles kTiles = attention_forward_sm90_tiles(kHeadDim);
  static constexpr int kConsumers = kTiles.consumers;
  static constexpr int kThreads = 128 * (1 + kConsumers);
  static constexpr int kWarpgroupRows = 64;
  static constexpr int kQueryTile = kTiles.query_tile();
  static constexpr int kKeyTile = kTiles.key_tile;
  static constexpr int kStages = kTiles.stages;
  static constexpr int kQueryStages = kTiles.query_stages;

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
  static constexpr int kKeyAt = kQueryAt + kQueryStages * QueryTile::kBytes;
  static constexpr int kValueAt = kKeyAt + kStages * KeyTile::kBytes;
  static constexpr int kOutAt = kValueAt + kStages * KeyTile::kBytes;
  static constexpr int kItemsAt = kOutAt + kConsumers * OutTile::kBytes;
  static constexpr int kItems = 3;  // one being finished, one begun, one ahead
  static constexpr int kBarriersAt = kItemsAt + kItems * static_cast<int>(sizeof(WorkItem));
  static constexpr int kSharedBytes =
      kPanelAlignment + kBarriersAt + Pipeline<kItems>::kBarrierBytes +
      Pipeline<kQueryStages>::kBarrierBytes + 2 * Pipeline<kStages>::kBarrierBytes;
  static_assert(kSharedBytes <= 232448, "the shared memory of a block on sm_90");

  struct Pipelines {
    Pipeline<kItems> item;
    Pipeline<kQueryStages> query;
    Pipeline<kStages> key, value;
    __device__ explicit Pipelines(std::uint32_t at)
        : item{at},
          query{item.barriers + Pipeline<kItems>::kBarrierBytes},
          key{query.barriers + Pipeline<kQueryStages>::kBarrierBytes},
          value{key.barriers + Pipeline<kStages>::kBarrierBytes} {}
    __device__ void init() const {
      item.init(kConsumers * 4);   // every warp reads the item,
      query.init(kConsumers * 4);  // and the queries
      key.init(kConsumers);
      value.init(kConsumers);
    }
  };
};

}  // namespace ringtrain::kernels
