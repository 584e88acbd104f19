#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/tile/attention_schedule.cuh"

/// What the launcher and the kernel of attention_backward_sm90 share.
namespace ringtrain::kernels {

struct AttentionBackwardSm90Params {
  CUtensorMap query;  // [B, N, Tq, H], box: one panel of a query tile
  CUtensorMap dout;
  CUtensorMap key;  // [B, K, Tk, H], box: one panel of a key tile
  CUtensorMap value;
  const float* lse;    // [B, N, Tq]
  const float* delta;  // [B, N, Tq]
  float* dquery;       // [B, Tq, N, H], added to
  float* dkey;         // [B, Tk, K, H], from the first visible key on, added to
  float* dvalue;
  int*
      turns;  // [B, N, query tiles, 2], zeros: whose turn it is to add to dquery; or null: no order
  TileOrder order;  // of key tiles
  VisibleKeys visible;
  int query_tokens;
  int key_tokens;  // from one batch entry of dkey to the next
  int query_heads;
  int kv_heads;
  float softmax_scale;
  float scale_log2;
};

/// Rows of a query tile; key tiles have 128. What the registers hold beside dK and dV of 64 keys.
constexpr int attention_backward_sm90_query_tile(int head_dim) {
  return head_dim == 128 ? 64 : 128;
}
inline constexpr int kAttentionBackwardSm90KeyTile = 128;

/// Launches a block for every item of params.order; instantiated for head_dim 64 and 128.
template <int kHeadDim>
void run_attention_backward_sm90(const AttentionBackwardSm90Params& params, cudaStream_t stream);

}  // namespace ringtrain::kernels
