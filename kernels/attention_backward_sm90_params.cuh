#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/tile/attention_schedule.cuh"
#include "ringtrain/kernels/attention_backward_sm90.h"

/// What the launcher and the kernel of attention_backward_sm90 share.
namespace ringtrain::kernels {

struct AttentionBackwardSm90Params {
  CUtensorMap query;  // [B, N, Tq, H], box: one panel of a query tile
  CUtensorMap dout;
  CUtensorMap key;  // [B, K, Tk, H], box: one panel of a key tile
  CUtensorMap value;
  CUtensorMap dquery;  // [B, N, Tq, H] fp32, added to; box: 64 rows of 32 columns
  const float* lse;    // [B, N, Tq]
  const float* delta;  // [B, N, Tq]
  const int* lowest;   // [B, Tq], ascending: rows see no key before it; null without documents
  void* dkey;          // [B, Tk, K, H], from the first visible key on
  void* dvalue;
  KeyGradient key_gradient;
  bool is_only_owner;  // of its keys' gradients is a block: no other adds to them meanwhile
  // [B, N, query tiles, 2], zeros: whose turn it is to add to dquery; or null: in any order
  int* turns;
  TileOrder order;   // of key tiles, for every heads_per_block query heads
  int skipped_tile;  // key tiles [skipped_tile, skipped_tile + skipped_tiles) are not of them
  int skipped_tiles;
  VisibleKeys visible;
  int query_tokens;
  int key_tokens;  // from one batch entry of dkey to the next
  int query_heads;
  int kv_heads;
  int heads_per_kv_head;
  int heads_per_block;  // 1 or heads_per_kv_head
  int head_dim;
  float softmax_scale;
  float scale_log2;
};

/// Rows of a query tile of the kernel for head_dim 64 or 128; key tiles have 128. What the
/// registers hold beside dK and dV of 64 keys.
constexpr int attention_backward_sm90_query_tile(int head_dim) {
  return head_dim == 128 ? 64 : 128;
}
inline constexpr int kAttentionBackwardSm90KeyTile = 128;

/// Launches a block for every item of params.order; instantiated for head_dim 64 and 128, each with
/// and without documents (params.lowest). A smaller params.head_dim is filled up with zeros.
template <int kHeadDim, bool kDocuments>
void run_attention_backward_sm90(const AttentionBackwardSm90Params& params, cudaStream_t stream);

}  // namespace ringtrain::kernels
