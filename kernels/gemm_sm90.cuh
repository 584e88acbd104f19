#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/gemm_sm90_epilogue.cuh"
#include "kernels/gemm_sm90_params.cuh"
#include "kernels/gemm_sm90_swiglu.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/ptx/tma.cuh"
#include "kernels/ptx/warpgroup.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/tile/item_queue.cuh"
#include "kernels/tile/panel.cuh"
#include "kernels/tile/pipeline.cuh"
#include "ringtrain/backend/cuda_check.h"

/// A matrix product on wgmma. A persistent block per SM takes tiles of 128 x 256 sums from a
/// counter, so that one which starts late, behind a kernel of NCCL, leaves its share to the others:
/// of the producer warpgroup one thread loads the operands by the copy engine, and one for each
/// consumer moves the panels of the epilogue, or the other warps work on them before; the two
/// consumer warpgroups own 64 rows each and keep one group of wgmma in flight. The operands of the
/// next tile arrive while this one is finished. Bound by the tensor cores and their power; every
/// sum runs over K in one order, whatever M and N are.
namespace ringtrain::kernels {

template <ptx::Major kMajorA, ptx::Major kMajorB, GemmEpilogue kEpilogue>
struct GemmSm90 {
  using Epilogue = EpilogueOf<kEpilogue>;
  static constexpr int kStages = Epilogue::kStages;
  static constexpr int kSlots = Epilogue::kSlots;
  static constexpr int kConsumers = 2;
  static constexpr bool kFinishes = Epilogue::kFinishes;
  static constexpr int kThreads = 128 * (1 + kConsumers);
  // Together what the threads get at launch, 3 x 168; finishers need theirs, and all keep them.
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
  static constexpr int kWarpgroupRows = 64;
  static_assert(kConsumers * kWarpgroupRows == kGemmTileM);

  /// The shared memory of an operand with `kOuter` rows or columns outside of the contraction.
  template <ptx::Major kMajor, int kOuter>
  using OperandTile =
      std::conditional_t<kMajor == ptx::Major::kContraction, PanelTile<kOuter, kGemmTileK>,
                         PanelTile<kGemmTileK, kOuter>>;
  using ATile = OperandTile<kMajorA, kGemmTileM>;
  using BTile = OperandTile<kMajorB, kGemmTileN>;
  static constexpr int kStageBytes = ATile::kBytes + BTile::kBytes;
  // 64 rows of a further on, whichever index is contiguous.
  static constexpr int kWarpgroupBytes = kWarpgroupRows * kGemmTileK * 2;

  // Offsets in shared memory.
  static constexpr int kSlotsAt = kStages * kStageBytes;
  static constexpr int kPairAt = kSlotsAt + kConsumers * kSlots * kSlotBytes;  // the finisher's
  static constexpr int kBarriersAt = kPairAt + (kFinishes ? 2 * kSlotBytes : 0);
  static constexpr int kSlotBarriersAt = kBarriersAt + Pipeline<kStages>::kBarrierBytes;
  static constexpr int kPairBarrierAt =
      kSlotBarriersAt + kConsumers * Pipeline<kSlots>::kBarrierBytes;
  static constexpr int kItemsAt = kPairBarrierAt + 8;
  using Items = ItemQueue<4>;
  // Those that store a tile are its last readers: consumers have filled their slots before.
  static constexpr int kItemReaders = kFinishes ? 1 : kConsumers;
  static constexpr int kSharedBytes = kPanelAlignment + kItemsAt + Items::kBytes;
  static_assert(kSharedBytes <= 232448, "the shared memory of a block on sm_90");

  __device__ static std::uint32_t slot_barriers(std::uint32_t shared, int warpgroup) {
    return shared + kSlotBarriersAt + warpgroup * Pipeline<kSlots>::kBarrierBytes;
  }
  __device__ static std::uint32_t slot_memory(std::uint32_t shared, int warpgroup) {
    return shared + kSlotsAt + warpgroup * kSlots * kSlotBytes;
  }

  __device__ static void init(std::uint32_t shared, const Items& items) {
    items.init(kItemReaders);
    Pipeline<kStages>{shared + kBarriersAt}.init(kConsumers);
    for (int w = 0; w < kConsumers; ++w) {
      Pipeline<kSlots>{slot_barriers(shared, w)}.init(4);  // every warp fills its rows
    }
    ptx::mbarrier_init(shared + kPairBarrierAt, 1);
  }

  /// Starts loading a stage's part of an operand whose first row or column is `outer`.
  template <ptx::Major kMajor, typename Tile>
  __device__ static void load_operand(const CUtensorMap& map, bool whole, std::uint32_t to,
                                      std::uint32_t barrier, int outer, int k) {
    if constexpr (kMajor == ptx::Major::kContraction) {
      ptx::tma_load_4d(to, &map, barrier, k, outer, 0, 0);
    } else if (whole) {
      ptx::tma_load_4d(to, &map, barrier, 0, k, outer / kPanelColumns, 0);
    } else {
      for (int panel = 0; panel < Tile::kPanels; ++panel) {
        ptx::tma_load_4d(to + panel * Tile::kPanelBytes, &map, barrier,
                         outer + panel * kPanelColumns, k, 0, 0);
      }
    }
  }

  /// One thread: takes tiles and loads their operands, as far ahead as the stages allow.
  __device__ static void load_operands(const GemmSm90Params& params, std::uint32_t shared,
                                       const Items& items) {
    const Pipeline<kStages> stages{shared + kBarriersAt};
    RingPosition<kStages> at;
    typename Items::Writer told{items};
    int item = params.counter->take();
    told.tell(item);
    while (item < params.order.num_tiles) {
      const int next_item = params.counter->take();
      const GemmTileOrder::Tile tile = params.order.at(item);
      const int row = tile.row * kGemmTileM;
      const int column = tile.column * Epilogue::kColumns;
      for (int block = 0; block < params.k_blocks; ++block) {
        stages.producer_acquire(at, kStageBytes);
        const std::uint32_t barrier = stages.full(at.stage);
        const std::uint32_t a = shared + at.stage * kStageBytes;
        const std::uint32_t b = a + ATile::kBytes;
        const int k = block * kGemmTileK;
        load_operand<kMajorA, ATile>(params.a, params.a_whole, a, barrier, row, k);
        if constexpr (kEpilogue == GemmEpilogue::kSwiglu) {  // as many rows of gate as of up
          ptx::tma_load_4d(b, &params.b, barrier, k, column, 0, 0);
          ptx::tma_load_4d(b + BTile::kBytes / 2, &params.b, barrier, k, column, 0, 1);
        } else {
          load_operand<kMajorB, BTile>(params.b, params.b_whole, b, barrier, column, k);
        }
        at.advance();
        if (block == 0) told.tell(next_item);  // by now it has been counted
      }
      item = next_item;
    }
    params.counter->finish();
  }

  /// The panels of a warpgroup, from tile to tile.
  struct PanelCursor {
    __device__ explicit PanelCursor(const Items& items) : tile(items) {}
    typename Items::Reader tile;
    int panel = 0;
    __device__ bool is_done(const GemmSm90Params& params) const {
      return tile.item >= params.order.num_tiles;
    }
    __device__ GemmCorner corner(const GemmSm90Params& params, int warpgroup) const {
      const GemmTileOrder::Tile at = params.order.at(tile.item);
      return {at.row * kGemmTileM + warpgroup * kWarpgroupRows, at.column * Epilogue::kColumns};
    }
    __device__ void advance(int panels, bool releases) {
      if (++panel < panels) return;
      panel = 0;
      tile.advance(releases);
    }
  };

  /// One thread for each consumer warpgroup: provides its slots and stores them.
  __device__ static void move_panels(const GemmSm90Params& params, std::uint32_t shared,
                                     const Items& items, int warpgroup) {
    const Pipeline<kSlots> slots{slot_barriers(shared, warpgroup)};
    const std::uint32_t memory = slot_memory(shared, warpgroup);
    const int panels = Epilogue::panels(params);
    RingPosition<kSlots> at;
    PanelCursor provided(items), stored(items);  // the second one lets go of tiles
    for (int i = 0; !stored.is_done(params); ++i) {
      slots.producer_wait(at);  // on the first lap there is nothing to store yet
      const std::uint32_t slot = memory + at.stage * kSlotBytes;
      if (i >= kSlots) {
        Epilogue::store(params, slot, stored.corner(params, warpgroup), stored.panel);
        ptx::bulk_commit_group();
        ptx::bulk_wait_group_read<0>();
        stored.advance(panels, true);
      }
      if (!provided.is_done(params)) {
        const std::uint32_t barrier = slots.full(at.stage);
        if (!Epilogue::load(params, slot, barrier, provided.corner(params, warpgroup),
                            provided.panel)) {
          ptx::mbarrier_arrive(barrier);
        }
        provided.advance(panels, false);
      }
      at.advance();
    }
    ptx::bulk_wait_group<0>();
  }

  /// The finishers, all warps but the first: panels of the consumers by turns, as they fill them.
  __device__ static void finish(const GemmSm90Params& params, std::uint32_t shared,
                                const Items& items) {
    constexpr int kPanels = Epilogue::kPanels;
    constexpr int kBarrier = 1;
    constexpr int kFinishers = Epilogue::kFinishers;
    const std::uint32_t pair = shared + kPairAt;
    const std::uint32_t pair_barrier = shared + kPairBarrierAt;
    const int thread = threadIdx.x - 32;
    const bool is_elected = thread == 0;
    const auto slots_of = [&](int warpgroup) {
      return Pipeline<kSlots>{slot_barriers(shared, warpgroup)};
    };
    // Of a tile: both consumers' first panel, then both's second.
    const auto load = [&](const PanelCursor& cursor) {
      if (cursor.is_done(params)) return;
      const GemmCorner corner = cursor.corner(params, cursor.panel % kConsumers);
      Epilogue::load(params, pair, pair_barrier, corner, cursor.panel / kConsumers);
    };
    PanelCursor cursor(items);
    if (is_elected) {
      for (int stage = 0; stage < kSlots; ++stage) {
        for (int w = 0; w < kConsumers; ++w) ptx::mbarrier_arrive(slots_of(w).full(stage));
      }
      load(cursor);
    }
    RingPosition<kSlots> at{0, 1};  // every lap has something to finish
    for (std::uint32_t pair_phase = 0; !cursor.is_done(params); pair_phase ^= 1) {
      const int warpgroup = cursor.panel % kConsumers;
      const int panel = cursor.panel / kConsumers;
      const GemmCorner corner = cursor.corner(params, warpgroup);
      const std::uint32_t slot = slot_memory(shared, warpgroup) + at.stage * kSlotBytes;
      slots_of(warpgroup).producer_wait(at);
      wait_for_phase(pair_barrier, pair_phase);
      Epilogue::finish(pair, slot, thread);
      ptx::fence_proxy_async_shared();
      ptx::named_barrier_sync(kBarrier, kFinishers);
      cursor.advance(kConsumers * kPanels, is_elected);
      if (is_elected) {
        Epilogue::store(params, pair, slot, corner, panel);
        ptx::bulk_commit_group();
        ptx::bulk_wait_group_read<0>();
        ptx::mbarrier_arrive(slots_of(warpgroup).full(at.stage));
        load(cursor);
      }
      if (warpgroup == kConsumers - 1) at.advance();
    }
    if (is_elected) ptx::bulk_wait_group<0>();
  }

  /// Offset of the k-th 16 of the contraction in an operand of a stage.
  template <ptx::Major kMajor, typename Tile>
  __device__ static constexpr std::uint32_t step(int k) {
    return kMajor == ptx::Major::kContraction ? Tile::column_step(k) : Tile::row_step(k);
  }

  /// One consumer warpgroup: the sums of its rows of every tile, and what becomes of them.
  __device__ static void consume(const GemmSm90Params& params, std::uint32_t shared,
                                 const Items& items) {
    const Pipeline<kStages> stages{shared + kBarriersAt};
    RingPosition<kStages> at, released;
    const int warpgroup = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0) - 1;
    const bool is_elected = threadIdx.x % 128 == 0;
    SlotWriter<kSlots> slots(slot_barriers(shared, warpgroup), slot_memory(shared, warpgroup));
    const auto release = [&] {
      if (is_elected) stages.consumer_release(released);
      released.advance();
    };
    for (typename Items::Reader tile(items); tile.item < params.order.num_tiles;
         tile.advance(false)) {
      float sums[kGemmSums];
      for (int block = 0; block < params.k_blocks; ++block) {
        stages.consumer_wait(at);
        const std::uint32_t stage = shared + at.stage * kStageBytes;
        const OperandDescriptor a = ATile::descriptor(stage + warpgroup * kWarpgroupBytes);
        const OperandDescriptor b = BTile::descriptor(stage + ATile::kBytes);
        ptx::wgmma_fence();
#pragma unroll
        for (int k = 0; k < kGemmTileK / 16; ++k) {
          ptx::wgmma_m64k16<kMajorA, kMajorB>(sums, a.at(step<kMajorA, ATile>(k)),
                                              b.at(step<kMajorB, BTile>(k)), block != 0 || k != 0);
        }
        ptx::wgmma_commit_group();
        ptx::wgmma_wait_group<1>();
        if (block != 0) release();  // the stage before this one
        at.advance();
      }
      ptx::wgmma_wait_group<0>();
      release();
      Epilogue::write(params, sums, slots);
    }
  }
};

template <ptx::Major kMajorA, ptx::Major kMajorB, GemmEpilogue kEpilogue>
__global__ void __launch_bounds__(GemmSm90<kMajorA, kMajorB, kEpilogue>::kThreads, 1)
    gemm_sm90_kernel(const __grid_constant__ GemmSm90Params params) {
  using Kernel = GemmSm90<kMajorA, kMajorB, kEpilogue>;
  extern __shared__ std::uint8_t raw_shared[];
  const auto raw = static_cast<std::uint32_t>(__cvta_generic_to_shared(raw_shared));
  const std::uint32_t shared = (raw + kPanelAlignment - 1) / kPanelAlignment * kPanelAlignment;
  const typename Kernel::Items items(shared + Kernel::kItemsAt,
                                     raw_shared + (shared - raw) + Kernel::kItemsAt);
  if (threadIdx.x == 0) {
    Kernel::init(shared, items);
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensormap(&params.a);
    ptx::prefetch_tensormap(&params.b);
  }
  __syncthreads();
  const int warp = threadIdx.x / 32;
  if (warp >= 4) {
    if constexpr (!Kernel::kFinishes) ptx::setmaxnreg_inc<Kernel::kConsumerRegisters>();
    Kernel::consume(params, shared, items);
  } else {
    if constexpr (!Kernel::kFinishes) ptx::setmaxnreg_dec<Kernel::kProducerRegisters>();
    if (threadIdx.x == 0) Kernel::load_operands(params, shared, items);
    if constexpr (Kernel::kFinishes) {
      if (warp > 0) Kernel::finish(params, shared, items);
    } else {
      if (warp > 0 && warp <= Kernel::kConsumers && threadIdx.x % 32 == 0) {
        Kernel::move_panels(params, shared, items, warp - 1);
      }
    }
  }
}

template <ptx::Major kMajorA, ptx::Major kMajorB, GemmEpilogue kEpilogue>
void run_gemm_sm90(const GemmSm90Params& params, int blocks, cudaStream_t stream) {
  using Kernel = GemmSm90<kMajorA, kMajorB, kEpilogue>;
  const auto kernel = gemm_sm90_kernel<kMajorA, kMajorB, kEpilogue>;
  RT_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     Kernel::kSharedBytes));
  kernel<<<static_cast<unsigned>(blocks), Kernel::kThreads, Kernel::kSharedBytes, stream>>>(params);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
