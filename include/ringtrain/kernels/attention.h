#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ringtrain/core/dtype.h"

namespace ringtrain::kernels {

/// Sizes and masks shared by the attention kernels; letters as in ops/backend.h.
struct AttentionShape {
  const std::int32_t* query_positions;  // [Tq], ascending
  const std::int32_t* key_positions;    // [Tk], ascending
  const std::int32_t* lowest_visible;   // [B, Tq], or null: no document boundaries
  std::int64_t batch;
  int query_tokens;
  int key_tokens;
  int query_heads;
  int kv_heads;  // divides query_heads
  int head_dim;  // 1 .. 256
  float softmax_scale;
  bool causal;
};

struct AttentionForwardArgs {
  AttentionShape shape;
  const void* query;  // [B, Tq, N, H] compute
  const void* key;    // [B, Tk, K, H] compute
  const void* value;  // [B, Tk, K, H] compute
  float* partial;     // [B, Tq, N, H]: read unless first, written unless last
  float* lse;         // [B, N, Tq]: read unless first, written
  void* out;          // [B, Tq, N, H] compute: written if last
  bool first;
  bool last;
};

struct AttentionDeltaArgs {
  const void* out;   // [B, T, N, H] compute
  const void* dout;  // [B, T, N, H] compute
  float* delta;      // [B, N, T]
  std::int64_t batch;
  std::int64_t tokens;
  int heads;
  int head_dim;
  DType compute;
};
void launch_attention_delta(const AttentionDeltaArgs& args, cudaStream_t stream);

struct AttentionBackwardArgs {
  AttentionShape shape;
  const void* query;   // [B, Tq, N, H] compute
  const void* key;     // [B, Tk, K, H] compute
  const void* value;   // [B, Tk, K, H] compute
  const void* dout;    // [B, Tq, N, H] compute
  const float* lse;    // [B, N, Tq]
  const float* delta;  // [B, N, Tq]
  float* dquery;       // [B, Tq, N, H], added to
  void* dkey;          // [B, Tk, K, H] fp32, added to; or, if rounds_key_value, bf16, written for
                       // keys that a query sees
  void* dvalue;        // as dkey
  bool rounds_key_value = false;
};

struct FirstVisibleKeyArgs {
  const std::int32_t* lowest_visible;  // [rows], a position
  const std::int32_t* key_positions;   // [keys], ascending
  int* out;                            // [rows]
  std::int64_t rows;
  int keys;
};
/// out = the index of the first key at or after the row's lowest visible position; `keys` if none.
void launch_first_visible_key(const FirstVisibleKeyArgs& args, cudaStream_t stream);

/// fp32 on the CUDA cores; Oracle: the CPU back end.
void launch_attention_forward_fp32(const AttentionForwardArgs& args, cudaStream_t stream);
void launch_attention_backward_fp32(const AttentionBackwardArgs& args, cudaStream_t stream);

/// bf16 with fp32 accumulation.
void launch_attention_forward_bf16(const AttentionForwardArgs& args, cudaStream_t stream);
void launch_attention_backward_bf16(const AttentionBackwardArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
