#pragma once

#include <cstdint>

/// bf16 tiles in shared memory as wgmma and the copy engine want them: panels of 64 columns, one
/// row of a panel in 128 bytes, the 16-byte chunks of a row permuted by its number (128-byte
/// swizzle). Panel p follows panel p - 1.
namespace ringtrain::kernels {

inline constexpr int kPanelColumns = 64;
inline constexpr int kPanelRowBytes = 128;
inline constexpr int kPanelAlignment = 1024;  // the swizzle repeats every 8 rows

/// A shared-memory operand of wgmma. Descriptor fields in units of 16 bytes: low word address and
/// leading offset, high word stride offset (8 rows) and swizzle mode.
class OperandDescriptor {
 public:
  /// `tile`: address, kPanelAlignment-aligned; `leading_bytes`: from one panel to the next, used
  /// where the panels follow each other along the operand's M or N.
  __device__ OperandDescriptor(std::uint32_t tile, std::uint32_t leading_bytes)
      : low_((tile & 0x3FFFF) >> 4 | (leading_bytes >> 4) << 16) {}
  /// The operand that starts `bytes` further on.
  __device__ std::uint64_t at(std::uint32_t bytes) const {
    constexpr std::uint32_t kHigh = 1u << 30 | 8 * kPanelRowBytes / 16;
    return static_cast<std::uint64_t>(kHigh) << 32 | (low_ + (bytes >> 4));
  }

 private:
  std::uint32_t low_;
};

template <int kRows_, int kColumns_>
struct PanelTile {
  static constexpr int kRows = kRows_;
  static constexpr int kColumns = kColumns_;
  static_assert(kRows % 8 == 0 && kColumns % kPanelColumns == 0);
  static constexpr int kPanels = kColumns / kPanelColumns;
  static constexpr int kPanelBytes = kRows * kPanelRowBytes;
  static constexpr int kBytes = kPanels * kPanelBytes;
  static_assert(kPanelBytes % kPanelAlignment == 0);

  /// Byte offset of an element; eight neighbours from a multiple of eight on stay together.
  __device__ static std::uint32_t offset(int row, int column) {
    const int in_row = column % kPanelColumns * 2 ^ (row & 7) << 4;
    return column / kPanelColumns * kPanelBytes + row * kPanelRowBytes + in_row;
  }
  __device__ static OperandDescriptor descriptor(std::uint32_t tile) {
    return OperandDescriptor(tile, kPanelBytes);
  }
  /// Offset for the k-th 16 of the contraction where columns are contracted (Major::kContraction).
  __device__ static constexpr std::uint32_t column_step(int k) {
    return k / 4 * kPanelBytes + k % 4 * 32;
  }
  /// The same where rows are contracted (Major::kOuter).
  __device__ static constexpr std::uint32_t row_step(int k) { return k * 16 * kPanelRowBytes; }
};

}  // namespace ringtrain::kernels
