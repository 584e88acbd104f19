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

/// Sums are rounded to slots, and the finishers take them from there while the tensor cores have
/// the next tile: the arithmetic would cost consumers a tenth of their time. What else is read and
/// written goes between registers and global memory, since the copy engine is busy with operands.
template <>
struct EpilogueOf<GemmEpilogue::kSwigluGradient> {
  static constexpr int kStages = 3;
  static constexpr int kSlots = 4;  // all that a warpgroup has of a tile
  static constexpr int kColumns = kGemmTileN;
  static constexpr bool kFinishes = true;
  static constexpr int kFinishers = 96;  // threads
  static constexpr int kPanels = 4;
  static constexpr int kChunks = kSlotBytes / 16;  // 8 neighbouring elements each
  static constexpr int kChunksPerThread = (kChunks + kFinishers - 1) / kFinishers;

  __device__ static void write(const GemmSm90Params&, const float (&sums)[kGemmSums],
                               SlotWriter<kSlots>& slots) {
    write_rounded(sums, slots);
  }

  /// One of this thread's chunks of a panel.
  struct Chunk {
    int row;     // of the panel
    int column;  // of the panel
    bool exists;
    __device__ Chunk(const SwigluGradientTensors& tensors, GemmCorner at, int thread, int i) {
      const int chunk = i * kFinishers + thread;
      row = chunk / (kPanelColumns / 8);
      column = chunk % (kPanelColumns / 8) * 8;
      exists = chunk < kChunks && at.row + row < tensors.rows && at.column + column < tensors.width;
    }
    /// Index of its first element in a row-major matrix of `width` columns.
    __device__ std::int64_t index(GemmCorner at, std::int64_t width) const {
      return (at.row + row) * width + at.column + column;
    }
  };

  /// Gate and up of a thread's chunks of a panel, on their way.
  struct Pairs {
    uint4 gate[kChunksPerThread];
    uint4 up[kChunksPerThread];

    __device__ void load(const SwigluGradientTensors& tensors, GemmCorner at, int thread, int i) {
      const Chunk chunk(tensors, at, thread, i);
      if (!chunk.exists) return;
      const bf16* from = tensors.gate_up + chunk.index(at, 2 * tensors.width);
      gate[i] = *reinterpret_cast<const uint4*>(from);
      up[i] = *reinterpret_cast<const uint4*>(from + tensors.width);
    }
  };

  /// Finishes chunk i of the panel at `at`.
  __device__ static void finish(const SwigluGradientTensors& tensors, std::uint32_t slot,
                                GemmCorner at, int thread, int i, const Pairs& pairs) {
    const Chunk chunk(tensors, at, thread, i);
    if (!chunk.exists) return;
    std::uint32_t sums[4];
    ptx::ld_shared_v4(sums, slot + Bf16Panel::offset(chunk.row, chunk.column));
    const auto gradient = [](std::uint32_t gate, std::uint32_t up, std::uint32_t& sum) {
      const SwigluGradient low =
          swiglu_gradient<bf16>(low_float(gate), low_float(up), low_float(sum));
      const SwigluGradient high =
          swiglu_gradient<bf16>(high_float(gate), high_float(up), high_float(sum));
      sum = ptx::pack_bf16(low.activation, high.activation);
      return uint2{ptx::pack_bf16(low.gate, high.gate), ptx::pack_bf16(low.up, high.up)};
    };
    const uint4 gate = pairs.gate[i];
    const uint4 up = pairs.up[i];
    const uint2 x = gradient(gate.x, up.x, sums[0]);
    const uint2 y = gradient(gate.y, up.y, sums[1]);
    const uint2 z = gradient(gate.z, up.z, sums[2]);
    const uint2 w = gradient(gate.w, up.w, sums[3]);
    bf16* to = tensors.dgate_up + chunk.index(at, 2 * tensors.width);
    *reinterpret_cast<uint4*>(to) = {x.x, y.x, z.x, w.x};
    *reinterpret_cast<uint4*>(to + tensors.width) = {x.y, y.y, z.y, w.y};
    if (tensors.activation == nullptr) return;
    bf16* h = tensors.activation + chunk.index(at, tensors.width);
    *reinterpret_cast<uint4*>(h) = {sums[0], sums[1], sums[2], sums[3]};
  }
};

}  // namespace ringtrain::kernels
