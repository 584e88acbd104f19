#pragma once

#include <cstdint>

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
};

/// Key tiles [0, num_tiles) of a query tile; all its rows see all of the first `num_plain`.
struct KeyTiles {
  int num_tiles;
  int num_plain;
};

template <int kQueryTile, int kKeyTile>
__device__ KeyTiles key_tiles(const VisibleKeys& visible, int first_row, int query_tokens) {
  const int last_row = min(first_row + kQueryTile, query_tokens) - 1;
  const int longest =
      first_row < visible.query_end ? visible.limit(min(last_row, visible.query_end - 1)) : 0;
  const int shortest = last_row < visible.query_end ? visible.limit(first_row) : 0;
  return {(longest + kKeyTile - 1) / kKeyTile, shortest / kKeyTile};
}

/// The order of query tiles: (batch, head) pairs in sections whose keys and values fit in L2; in a
/// section the last query tile first, which is the longest under a causal mask; heads fastest.
struct TileOrder {
  int num_query_tiles;
  int num_heads;          // batch x query heads
  int heads_per_section;  // a multiple of the query heads that share a key/value head
  int num_items;          // num_query_tiles x num_heads

  struct Tile {
    int query_tile;
    int head;  // in [0, num_heads)
  };
  __device__ Tile at(int item) const {
    const int section = item / (heads_per_section * num_query_tiles);
    const int first_head = section * heads_per_section;
    const int heads = min(heads_per_section, num_heads - first_head);
    const int within = item - first_head * num_query_tiles;
    return {num_query_tiles - 1 - within / heads, first_head + within % heads};
  }
};

/// Hands out items to the blocks of a persistent grid: block b starts with item b, later items
/// come from the counter. The last block to finish resets it for the next launch.
struct ItemCounter {
  int taken;
  int finished;

  __device__ int take() { return static_cast<int>(gridDim.x) + atomicAdd(&taken, 1); }
  /// One thread of every block, after its last take().
  __device__ void finish() {
    __threadfence();
    if (atomicAdd(&finished, 1) != static_cast<int>(gridDim.x) - 1) return;
    finished = 0;
    taken = 0;
  }
};

}  // namespace ringtrain::kernels
