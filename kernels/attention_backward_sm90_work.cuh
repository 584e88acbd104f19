#pragma once

#include <cstdint>

#include "kernels/attention_backward_sm90_params.cuh"
#include "kernels/ptx/global.cuh"
#include "kernels/tile/pipeline.cuh"

namespace ringtrain::kernels {

/// What a block works on: query tiles [begin, end) of `heads` query heads, in this order. In
/// shared memory and read where it is wanted: registers are short.
template <int kQueryTile, bool kDocuments>
struct AttentionBackwardSm90Work {
  static constexpr int kKeyTile = kAttentionBackwardSm90KeyTile;

  int batch;
  int kv_head;
  int first_key;
  int begin;
  int end;
  int heads;
  int first_head;
  int num_steps;

  /// One warp calls, all lanes get the same.
  __device__ explicit AttentionBackwardSm90Work(const AttentionBackwardSm90Params& params) {
    const TileOrder::Tile tile = params.order.at(static_cast<int>(blockIdx.x));
    heads = params.heads_per_block;
    const int groups = params.query_heads / heads;
    batch = tile.head / groups;
    first_head = (tile.head - batch * groups) * heads;
    kv_head = first_head / params.heads_per_kv_head;
    // The first keys are seen by most queries: longest first. Where sums are ordered, by turns:
    // see place_in_order.
    int key_tile = params.turns == nullptr ? tile.rank : params.order.num_tiles - 1 - tile.rank;
    if (key_tile >= params.skipped_tile) key_tile += params.skipped_tiles;
    first_key = key_tile * kKeyTile;
    begin = params.visible.first_row(first_key) / kQueryTile;
    int query_end = min(params.visible.query_end, params.query_tokens);
    if constexpr (kDocuments) {
      const int* lowest = params.lowest + std::int64_t{batch} * params.query_tokens;
      query_end =
          min(query_end, count_up_to(lowest, params.query_tokens, first_key + kKeyTile - 1));
    }
    end = (query_end + kQueryTile - 1) / kQueryTile;
    num_steps = heads * max(0, end - begin);
  }

  /// How many of `count` ascending values are at most `bound`. One warp calls; it narrows the range
  /// to one 32nd at a time.
  __device__ static int count_up_to(const int* values, int count, int bound) {
    const int lane = threadIdx.x % 32;
    int begin = 0;
    while (count > 0) {
      const int piece = (count + 31) / 32;
      const bool counts = lane * piece < count && values[begin + lane * piece] <= bound;
      const int pieces = __popc(__ballot_sync(0xffffffffu, counts));  // that begin so
      if (pieces == 0) break;
      const int skipped = (pieces - 1) * piece;
      begin += skipped + 1;
      count = min(piece, count - skipped) - 1;
    }
    return begin;
  }

  /// Steps through the query tiles of a block's heads.
  struct Cursor {
    int head;
    int tile;
    __device__ explicit Cursor(const volatile AttentionBackwardSm90Work& work)
        : head(work.first_head), tile(work.begin) {}
    __device__ void advance(const volatile AttentionBackwardSm90Work& work) {
      if (++tile == work.end) {
        tile = work.begin;
        ++head;
      }
    }
  };

  /// Counts the blocks that have added to a warpgroup's part of a query tile.
  __device__ static int* turn(const AttentionBackwardSm90Params& params,
                              const volatile AttentionBackwardSm90Work& work, const Cursor& cursor,
                              int warpgroup) {
    const int tiles = (params.query_tokens + kQueryTile - 1) / kQueryTile;
    const int head = work.batch * params.query_heads + cursor.head;
    return params.turns + (std::int64_t{head} * tiles + cursor.tile) * 2 + warpgroup;
  }
  /// How many blocks add to a query tile before this one. Blocks of later keys add first: they are
  /// launched earlier, and since every block starts at the first tile that sees its keys, they come
  /// to each tile earlier, without waiting.
  __device__ static int place_in_order(const AttentionBackwardSm90Params& params,
                                       const volatile AttentionBackwardSm90Work& work, int tile) {
    const int last_row = tile * kQueryTile + kQueryTile - 1;
    const int last_key = min(params.visible.key_count - 1,
                             last_row - params.visible.query_begin + params.visible.shift);
    return (last_key - work.first_key) / kKeyTile;
  }
  __device__ static void wait_for_turn(const AttentionBackwardSm90Params& params,
                                       const volatile AttentionBackwardSm90Work& work,
                                       const Cursor& cursor, int warpgroup) {
    const int* done = turn(params, work, cursor, warpgroup);
    const int place = place_in_order(params, work, cursor.tile);
    spin_until([&] { return ptx::ld_acquire(done) == place; });
  }
  __device__ static void pass_turn(const AttentionBackwardSm90Params& params,
                                   const volatile AttentionBackwardSm90Work& work,
                                   const Cursor& cursor, int warpgroup) {
    ptx::st_release(turn(params, work, cursor, warpgroup),
                    place_in_order(params, work, cursor.tile) + 1);
  }
};

}  // namespace ringtrain::kernels
