#pragma once

#include <cstdint>

/// fp32 tiles in shared memory as the copy engine wants them: panels of 32 columns, one row of a
/// panel in 128 bytes, the 16-byte chunks of a row permuted by its number (128-byte swizzle).
namespace ringtrain::kernels {

template <int kRows_, int kColumns_>
struct FloatPanelTile {
  static constexpr int kRows = kRows_;
  static constexpr int kPanelColumns = 32;
  static_assert(kRows % 8 == 0 && kColumns_ % kPanelColumns == 0);
  static constexpr int kPanels = kColumns_ / kPanelColumns;
  static constexpr int kPanelBytes = kRows * 128;
  static constexpr int kBytes = kPanels * kPanelBytes;

  /// Byte offset of an element; four neighbours from a multiple of four on stay together.
  __device__ static std::uint32_t offset(int row, int column) {
    const int in_row = column % kPanelColumns * 4 ^ (row & 7) << 4;
    return column / kPanelColumns * kPanelBytes + row * 128 + in_row;
  }
};

}  // namespace ringtrain::kernels
