#pragma once

#include <cstdint>

#include "kernels/gemm_sm90_params.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/shared.cuh"
#include "kernels/ptx/tma.cuh"
#include "kernels/ptx/warpgroup.cuh"
#include "kernels/tile/float_panel.cuh"
#include "kernels/tile/numeric.cuh"
#include "kernels/tile/panel.cuh"
#include "kernels/tile/pipeline.cuh"
#include "kernels/tile/swiglu.cuh"

/// How the sums of a tile leave the registers: by panels of a warpgroup's 64 rows and 128 bytes,
/// through a ring of slots in shared memory. Another thread provides slots, empty or with a panel
/// that the epilogue reads, and stores them once the consumers have filled them; while it does so
/// they go on with the next panel or the next tile. What is read can so be there before the sums
/// are.
namespace ringtrain::kernels {

using Bf16Panel = PanelTile<64, 64>;
using FloatPanel = FloatPanelTile<64, 32>;
inline constexpr int kSlotBytes = Bf16Panel::kBytes;
static_assert(kSlotBytes == FloatPanel::kBytes);
inline constexpr int kGemmSums = kGemmTileM / 2 * kGemmTileN / 128;  // a thread's

/// Where a warpgroup's part of a tile is in the output.
struct GemmCorner {
  int row;
  int column;
};

/// A consumer warpgroup's side of its ring.
template <int kSlots>
class SlotWriter {
 public:
  __device__ SlotWriter(std::uint32_t barriers, std::uint32_t memory)
      : slots_{barriers}, memory_(memory) {}

  /// The next slot.
  __device__ std::uint32_t acquire() {
    slots_.consumer_wait(acquired_);
    const std::uint32_t slot = memory_ + acquired_.stage * kSlotBytes;
    acquired_.advance();
    return slot;
  }
  /// The oldest acquired slot is filled.
  __device__ void release() {
    ptx::fence_proxy_async_shared();
    __syncwarp();
    if (threadIdx.x % 32 == 0) slots_.consumer_release(released_);
    released_.advance();
  }

 private:
  Pipeline<kSlots> slots_;
  std::uint32_t memory_;
  RingPosition<kSlots> acquired_, released_;
};

/// Where this thread's 16 bytes of 16 columns are, for stmatrix and ldmatrix.
__device__ inline std::uint32_t matrix_row(std::uint32_t slot, int column_block) {
  const int thread = threadIdx.x % 128;
  const int lane = thread % 32;
  return slot + Bf16Panel::offset(thread / 32 * 16 + lane % 16, 16 * column_block + lane / 16 * 8);
}

/// 64 columns as wgmma leaves them, packed: packed[4 k + i] belongs to register i of stmatrix.
__device__ inline void fill_panel(std::uint32_t slot, const std::uint32_t (&packed)[16]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    ptx::stmatrix_x4(matrix_row(slot, k), packed[4 * k], packed[4 * k + 1], packed[4 * k + 2],
                     packed[4 * k + 3]);
  }
}

template <int kFirst>
__device__ inline void pack_panel(std::uint32_t (&packed)[16], const float (&sums)[kGemmSums]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    packed[i] = ptx::pack_bf16(sums[kFirst + 2 * i], sums[kFirst + 2 * i + 1]);
  }
}

/// All sums, rounded, in four panels.
template <int kSlots>
__device__ void write_rounded(const float (&sums)[kGemmSums], SlotWriter<kSlots>& slots) {
  const auto write = [&]<int kFirst>() {
    std::uint32_t packed[16];
    pack_panel<kFirst>(packed, sums);
    fill_panel(slots.acquire(), packed);
    slots.release();
  };
  write.template operator()<0>();
  write.template operator()<32>();
  write.template operator()<64>();
  write.template operator()<96>();
}

/// Each has:
///   kStages, kSlots  of operands, and of panels for each warpgroup: together the shared memory
///   kColumns         of the output that belong to a tile
///   write            fills the slots of a tile, one after the other
///   kFinishes        false; or true, and then instead of what follows what finishers need
///   panels           of a warpgroup's tile
///   load             starts reading a panel into its slot, or returns false where none is read
///   store            a filled slot
template <GemmEpilogue kEpilogue>
struct EpilogueOf;

template <>
struct EpilogueOf<GemmEpilogue::kStoreBf16> {
  static constexpr int kStages = 4;
  static constexpr int kSlots = 2;
  static constexpr int kColumns = kGemmTileN;
  static constexpr bool kFinishes = false;

  __device__ static int panels(const GemmSm90Params&) { return 4; }
  __device__ static bool load(const GemmSm90Params&, std::uint32_t, std::uint32_t, GemmCorner,
                              int) {
    return false;
  }
  __device__ static void store(const GemmSm90Params& params, std::uint32_t slot, GemmCorner at,
                               int panel) {
    ptx::tma_store_4d(&params.out, slot, at.column + panel * kPanelColumns, at.row, 0, 0);
  }
  __device__ static void write(const GemmSm90Params&, const float (&sums)[kGemmSums],
                               SlotWriter<kSlots>& slots) {
    write_rounded(sums, slots);
  }
};

template <>
struct EpilogueOf<GemmEpilogue::kAddBf16> {
  static constexpr int kStages = 4;
  static constexpr int kSlots = 2;
  static constexpr int kColumns = kGemmTileN;
  static constexpr bool kFinishes = false;

  __device__ static int panels(const GemmSm90Params&) { return 4; }
  __device__ static bool load(const GemmSm90Params& params, std::uint32_t slot,
                              std::uint32_t barrier, GemmCorner at, int panel) {
    ptx::mbarrier_arrive_expect_tx(barrier, kSlotBytes);
    ptx::tma_load_4d(slot, &params.read, barrier, at.column + panel * kPanelColumns, at.row, 0, 0);
    return true;
  }
  __device__ static void store(const GemmSm90Params& params, std::uint32_t slot, GemmCorner at,
                               int panel) {
    EpilogueOf<GemmEpilogue::kStoreBf16>::store(params, slot, at, panel);
  }
  __device__ static void write(const GemmSm90Params&, const float (&sums)[kGemmSums],
                               SlotWriter<kSlots>& slots) {
#pragma unroll
    for (int panel = 0; panel < 4; ++panel) {
      const std::uint32_t slot = slots.acquire();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const std::uint32_t row = matrix_row(slot, k);
        std::uint32_t pairs[4];
        ptx::ldmatrix_x4(pairs, row);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int at = 32 * panel + 8 * k + 2 * i;
          const std::uint32_t product = ptx::pack_bf16(sums[at], sums[at + 1]);
          pairs[i] = ptx::pack_bf16(low_float(product) + low_float(pairs[i]),
                                    high_float(product) + high_float(pairs[i]));
        }
        ptx::stmatrix_x4(row, pairs[0], pairs[1], pairs[2], pairs[3]);
      }
      slots.release();
    }
  }
};

/// An addition happens in L2: nothing is read.
template <>
struct EpilogueOf<GemmEpilogue::kFloat> {
  static constexpr int kStages = 4;
  static constexpr int kSlots = 2;
  static constexpr int kColumns = kGemmTileN;
  static constexpr bool kFinishes = false;

  __device__ static int panels(const GemmSm90Params&) { return 8; }
  __device__ static bool load(const GemmSm90Params&, std::uint32_t, std::uint32_t, GemmCorner,
                              int) {
    return false;
  }
  __device__ static void store(const GemmSm90Params& params, std::uint32_t slot, GemmCorner at,
                               int panel) {
    const int column = at.column + panel * FloatPanel::kPanelColumns;
    if (params.accumulates) {
      ptx::tma_reduce_add_4d(&params.out, slot, column, at.row, 0, 0);
    } else {
      ptx::tma_store_4d(&params.out, slot, column, at.row, 0, 0);
    }
  }
  __device__ static void write(const GemmSm90Params&, const float (&sums)[kGemmSums],
                               SlotWriter<kSlots>& slots) {
    const int thread = threadIdx.x % 128;
    const int row = thread / 32 * 16 + thread % 32 / 4;
    const int column = thread % 4 * 2;
#pragma unroll
    for (int panel = 0; panel < 8; ++panel) {
      const std::uint32_t slot = slots.acquire();
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int at = 16 * panel + 4 * j;
        ptx::st_shared_v2(slot + FloatPanel::offset(row, 8 * j + column), sums[at], sums[at + 1]);
        ptx::st_shared_v2(slot + FloatPanel::offset(row + 8, 8 * j + column), sums[at + 2],
                          sums[at + 3]);
      }
      slots.release();
    }
  }
};

}  // namespace ringtrain::kernels
