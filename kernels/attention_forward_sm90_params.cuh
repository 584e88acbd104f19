#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/tile/attention_schedule.cuh"
#include "kernels/tile/item_counter.cuh"

/// What the launcher and the kernel of attention_forward_sm90 share.
namespace ringtrain::kernels {

struct AttentionForwardSm90Params {
  CUtensorMap query;  // [B, Tq, N, H], box: one panel of a query tile
  CUtensorMap key;    // [B, Tk, K, H], box: one panel of a key tile
  CUtensorMap value;
  CUtensorMap out;    // [B, Tq, N, H], box: one panel of a warpgroup's rows
  float* partial;     // [B, Tq, N, H]
  float* lse;         // [B, N, Tq]
  const int* lowest;  // [B, Tq], ascending: rows see no key before it; null without documents
  ItemCounter* counter;
  TileOrder order;
  VisibleKeys visible;
  int query_tokens;
  int query_heads;
  int first_head;  // of num_heads, which are worked on
  int num_heads;
  int heads_per_kv_head;
  int head_dim;
  float scale_log2;  // softmax_scale * log2(e): weights are powers of two
  bool first;
  bool last;
};

struct AttentionForwardSm90Tiles {
  int consumers;  // warpgroups of 64 query rows
  int key_tile;
  int stages;  // of keys, and as many of values
  bool query_in_registers;
  int query_stages;          // one where the queries move on to registers
  int products_before_turn;  // of the key_tile / 16 of a step: see ProductTurns
  int consumer_registers;
  int producer_registers;
  constexpr int query_tile() const { return 64 * consumers; }
};

/// `head_dim` is that of the kernel, 64 or 128.
constexpr AttentionForwardSm90Tiles attention_forward_sm90_tiles(int head_dim) {
  // Registers add up to what the threads get at launch, 3 x 168 and 4 x 128. At head_dim 64 the
  // output takes half the registers, which pays for a third warpgroup: each key tile serves more
  // rows, and there are more exponentials to hide behind products.
  return head_dim == 128 ? AttentionForwardSm90Tiles{.consumers = 2,
                                                     .key_tile = 128,
                                                     .stages = 2,
                                                     .query_in_registers = true,
                                                     .query_stages = 1,
                                                     .products_before_turn = 4,
                                                     .consumer_registers = 240,
                                                     .producer_registers = 24}
                         : AttentionForwardSm90Tiles{.consumers = 3,
                                                     .key_tile = 128,
                                                     .stages = 3,
                                                     .query_in_registers = false,
                                                     .query_stages = 2,
                                                     .products_before_turn = 6,
                                                     .consumer_registers = 160,
                                                     .producer_registers = 32};
}

/// Launches `blocks` blocks; instantiated for head_dim 64 and 128, each with and without documents
/// (params.lowest). A smaller params.head_dim is filled up with zeros.
template <int kHeadDim, bool kDocuments>
void run_attention_forward_sm90(const AttentionForwardSm90Params& params, int blocks,
                                cudaStream_t stream);

}  // namespace ringtrain::kernels
