#pragma once

#include <cstdint>

#include "kernels/gemm_sm90_epilogue.cuh"
#include "kernels/ptx/shared.cuh"
#include "kernels/tile/swiglu.cuh"

/// The epilogues of SwiGLU and of its gradient.
namespace ringtrain::kernels {

/// Gate and up are rounded before they are used, so that h does not depend on whether they are
/// stored. For each 64 columns: gate and up where wanted, then h.
template <>
struct EpilogueOf<GemmEpilogue::kSwiglu> {
  static constexpr int kStages = 4;
  static constexpr int kSlots = 2;
  static constexpr int kColumns = kGemmTileN / 2;
  static constexpr bool kFinishes = false;

  __device__ static int panels(const GemmSm90Params& params) { return 2 * group(params); }
  __device__ static bool load(const GemmSm90Params&, std::uint32_t, std::uint32_t, GemmCorner,
                              int) {
    return false;
  }
  __device__ static void store(const GemmSm90Params& params, std::uint32_t slot, GemmCorner at,
                               int panel) {
    const int column = at.column + panel / group(params) * kPanelColumns;
    const int part = panel % group(params);
    if (params.has_second && part < 2) {
      ptx::tma_store_4d(&params.second, slot, column, at.row, part, 0);
    } else {
      ptx::tma_store_4d(&params.out, slot, column, at.row, 0, 0);
    }
  }
  __device__ static void write(const GemmSm90Params& params, const float (&sums)[kGemmSums],
                               SlotWriter<kSlots>& slots) {
    write_columns<0>(params, sums, slots);
    write_columns<32>(params, sums, slots);
  }

 private:
  __device__ static int group(const GemmSm90Params& params) {
    return (params.has_second ? 2 : 0) + (params.has_out ? 1 : 0);
  }
  template <int kFirst>
  __device__ static void write_columns(const GemmSm90Params& params, const float (&sums)[kGemmSums],
                                       SlotWriter<kSlots>& slots) {
    std::uint32_t gate[16];
    std::uint32_t up[16];
    pack_panel<kFirst>(gate, sums);
    pack_panel<kFirst + kGemmSums / 2>(up, sums);
    if (params.has_second) {
      fill_panel(slots.acquire(), gate);
      slots.release();
      fill_panel(slots.acquire(), up);
      slots.release();
    }
    if (!params.has_out) return;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      gate[i] = ptx::pack_bf16(swiglu<bf16>(low_float(gate[i]), low_float(up[i])),
                               swiglu<bf16>(high_float(gate[i]), high_float(up[i])));
    }
    fill_panel(slots.acquire(), gate);
    slots.release();
  }
};

/// Sums are rounded to slots, and the finishers work on them while the tensor cores have the next
/// tile: the arithmetic would cost consumers a tenth of their time. Gate and up are read and become
/// their gradients, and h takes the place of the sums.
template <>
struct EpilogueOf<GemmEpilogue::kSwigluGradient> {
  static constexpr int kStages = 3;
  static constexpr int kSlots = 4;  // all that a warpgroup has of a tile
  static constexpr int kColumns = kGemmTileN;
  static constexpr bool kFinishes = true;
  static constexpr int kFinishers = 96;  // threads
  static constexpr int kPanels = 4;
  static constexpr int kPairBytes = 2 * kSlotBytes;  // gate, up

  __device__ static void write(const GemmSm90Params&, const float (&sums)[kGemmSums],
                               SlotWriter<kSlots>& slots) {
    write_rounded(sums, slots);
  }

  /// Starts reading gate and up of a panel.
  __device__ static void load(const GemmSm90Params& params, std::uint32_t pair,
                              std::uint32_t barrier, GemmCorner at, int panel) {
    ptx::mbarrier_arrive_expect_tx(barrier, kPairBytes);
    for (int part = 0; part < 2; ++part) {
      ptx::tma_load_4d(pair + part * kSlotBytes, &params.read, barrier,
                       at.column + panel * kPanelColumns, at.row, part, 0);
    }
  }

  /// This thread's part of a panel. All three have one layout, so that it does not matter which.
  __device__ static void finish(std::uint32_t pair, std::uint32_t slot, int thread) {
#pragma unroll 1
    for (std::uint32_t at = thread * 16; at < kSlotBytes; at += kFinishers * 16) {
      std::uint32_t gate[4];
      std::uint32_t up[4];
      std::uint32_t sums[4];
      ptx::ld_shared_v4(gate, pair + at);
      ptx::ld_shared_v4(up, pair + kSlotBytes + at);
      ptx::ld_shared_v4(sums, slot + at);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const SwigluGradient low =
            swiglu_gradient<bf16>(low_float(gate[i]), low_float(up[i]), low_float(sums[i]));
        const SwigluGradient high =
            swiglu_gradient<bf16>(high_float(gate[i]), high_float(up[i]), high_float(sums[i]));
        gate[i] = ptx::pack_bf16(low.gate, high.gate);
        up[i] = ptx::pack_bf16(low.up, high.up);
        sums[i] = ptx::pack_bf16(low.activation, high.activation);
      }
      ptx::st_shared_v4(pair + at, gate);
      ptx::st_shared_v4(pair + kSlotBytes + at, up);
      ptx::st_shared_v4(slot + at, sums);
    }
  }

  __device__ static void store(const GemmSm90Params& params, std::uint32_t pair, std::uint32_t slot,
                               GemmCorner at, int panel) {
    const int column = at.column + panel * kPanelColumns;
    for (int part = 0; part < 2; ++part) {
      ptx::tma_store_4d(&params.out, pair + part * kSlotBytes, column, at.row, part, 0);
    }
    if (params.has_second) ptx::tma_store_4d(&params.second, slot, column, at.row, 0, 0);
  }
};

}  // namespace ringtrain::kernels
