#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "ringtrain/core/error.h"
#include "ringtrain/ops/attention_segment.h"

/// Which tile a block of attention works on next, and which keys its rows see.
namespace ringtrain::kernels {

/// Rows [query_begin, query_end) of the query see the first i - query_begin + shift + 1 keys of
/// row i, between 0 and key_count; other rows see none. An AttentionSegment whose keys start at
/// the first key.
struct VisibleKeys {
  int query_begin;
  int query_end;
  int key_count;
  int shift;

  /// Keys that a row sees: a prefix, ever longer from row to row.
  __device__ int limit(int row) const {
    if (row < query_begin || row >= query_end) return 0;
    return max(0, min(key_count, row - query_begin + shift + 1));
  }
  /// The first row that sees a key; from there on all rows up to query_end do.
  __device__ int first_row(int key) const {
    return key < key_count ? query_begin + max(0, key - shift) : query_end;
  }
};

/// The keys of `segment` from its first one on.
inline VisibleKeys visible_keys(const AttentionSegment& segment) {
  // Beyond these shifts every or no key is visible; int is wide enough then.
  const std::int64_t shift = std::clamp(segment.shift, -segment.qn, segment.kn);
  return {.query_begin = static_cast<int>(segment.q0),
          .query_end = static_cast<int>(segment.q0 + segment.qn),
          .key_count = static_cast<int>(segment.kn),
          .shift = static_cast<int>(shift)};
}

/// Key tiles [begin, end) of a query tile; all its rows see all keys of [plain_begin, plain_end).
struct KeyTiles {
  int begin;
  int plain_begin;
  int plain_end;
  int end;
  __device__ bool empty() const { return begin >= end; }
};

/// `lowest`, [Tq] of the batch entry or null, ascends: rows see no key before it.
template <int kQueryTile, int kKeyTile>
__device__ KeyTiles key_tiles(const VisibleKeys& visible, const int* lowest, int first_row,
                              int query_tokens) {
  const int last_row = min(first_row + kQueryTile, query_tokens) - 1;
  const int longest =
      first_row < visible.query_end ? visible.limit(min(last_row, visible.query_end - 1)) : 0;
  const int shortest = last_row < visible.query_end ? visible.limit(first_row) : 0;
  KeyTiles tiles{0, 0, shortest / kKeyTile, (longest + kKeyTile - 1) / kKeyTile};
  if (lowest != nullptr) {
    tiles.begin = lowest[first_row] / kKeyTile;
    tiles.plain_begin = (lowest[last_row] + kKeyTile - 1) / kKeyTile;
  }
  return tiles;
}

/// The order of tiles: (batch, head) pairs in sections whose shared data fit in L2; in a section
/// the longest tile of every head, then the next.
struct TileOrder {
  int num_tiles;  // of a head
  int num_heads;  // batch x heads
  int heads_per_section;
  int num_items;  // num_tiles x num_heads

  struct Tile {
    int rank;  // in [0, num_tiles): 0 for the longest
    int head;  // in [0, num_heads)
  };
  __device__ Tile at(int item) const {
    const int section = item / (heads_per_section * num_tiles);
    const int first_head = section * heads_per_section;
    const int heads = min(heads_per_section, num_heads - first_head);
    const int within = item - first_head * num_tiles;
    return {within / heads, first_head + within % heads};
  }
};

/// Tiles of `tile` out of `tokens` rows for every head. A head's share of L2 is `head_bytes`, of
/// which `section_bytes` fit; sections are a power of two times `granule` heads.
inline TileOrder tile_order(std::int64_t tokens, int tile, std::int64_t heads, std::int64_t granule,
                            std::int64_t head_bytes, std::int64_t section_bytes) {
  std::int64_t section = granule;
  while (2 * section * head_bytes <= section_bytes && section < heads) section *= 2;
  const std::int64_t tiles = (tokens + tile - 1) / tile;
  if (heads * tiles > INT32_MAX / 2) {
    throw InvalidArgument("attention: " + std::to_string(heads) + " heads of " +
                          std::to_string(tokens) + " tokens are too many for a launch");
  }
  return {.num_tiles = static_cast<int>(tiles),
          .num_heads = static_cast<int>(heads),
          .heads_per_section = static_cast<int>(std::min(section, heads)),
          .num_items = static_cast<int>(heads * tiles)};
}

}  // namespace ringtrain::kernels
