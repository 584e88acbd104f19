#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gemm.h"
#include "ringtrain/ops/backend.h"
#include "scalar.h"

namespace ringtrain::cpu {

/// Blocks of scores are at most this large, whatever the chunk sizes, so that they stay in the
/// cache of a core and blocks above the diagonal are skipped.
inline constexpr std::int64_t kMaxQueryBlock = 128;
inline constexpr std::int64_t kMaxKeyBlock = 256;

inline std::int64_t block_size(std::int64_t chunk_size, std::int64_t largest) {
  return chunk_size == 0 ? largest : std::min(chunk_size, largest);
}

/// Keys [begin, end) of a step; none if they are equal.
struct KeyRange {
  std::int64_t begin, end;
};

/// The keys a query row sees: positions ascend, so they are contiguous.
KeyRange visible_keys(const AttentionMask& mask, std::int64_t b, std::int64_t query);

/// The keys that rows [begin, begin + count) of a sequence see, and the smallest range that holds
/// them all.
struct VisibleRows {
  VisibleRows(const AttentionMask& mask, std::int64_t b, std::int64_t begin, std::int64_t count);

  /// Row `i`'s keys inside the block [begin, end), counted from its beginning.
  KeyRange within(std::int64_t i, std::int64_t begin, std::int64_t end) const {
    const KeyRange& row = rows[static_cast<std::size_t>(i)];
    const std::int64_t first = std::clamp(row.begin, begin, end);
    return {first - begin, std::max(first, std::min(row.end, end)) - begin};
  }

  std::vector<KeyRange> rows;
  KeyRange all;
};

/// Rows [begin, begin + rows) of one head of a [B, T, heads, H] tensor in the accumulator type:
/// in place if they are stored so, else widened into `scratch` [rows, H].
template <typename T>
Matrix<Accumulator<T>> head_rows(const Tensor& tensor, std::int64_t b, std::int64_t head,
                                 std::int64_t begin, std::int64_t rows, Accumulator<T>* scratch) {
  const std::int64_t tokens = tensor.size(1), heads = tensor.size(2), head_dim = tensor.size(3);
  const T* data = tensor.data<T>() + ((b * tokens + begin) * heads + head) * head_dim;
  if constexpr (std::is_same_v<T, Accumulator<T>>) {
    return {data, heads * head_dim};
  } else {
    for (std::int64_t i = 0; i < rows; ++i) {
      widen(data + i * heads * head_dim, scratch + i * head_dim, head_dim);
    }
    return {scratch, head_dim};
  }
}

template <typename A>
Matrix<A> transposed(Matrix<A> matrix) {
  return {matrix.data, matrix.stride, !matrix.transposed};
}

}  // namespace ringtrain::cpu
