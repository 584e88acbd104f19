#pragma once

#include <cuda_bf16.h>

#include <cstdint>

/// Attention in double, written to be read: what the fast kernels are compared with.
namespace ringtrain::bench {

struct ReferenceArgs {
  const __nv_bfloat16* query;           // [B, Tq, N, H]
  const __nv_bfloat16* key;             // [B, Tk, K, H]
  const __nv_bfloat16* value;           // [B, Tk, K, H]
  const std::int32_t* query_positions;  // [Tq], or null: every key is visible
  const std::int32_t* key_positions;    // [Tk]
  double* out;                          // [B, Tq, N, H]
  double* lse;                          // [B, N, Tq]
  float* rounded;                       // [B, Tq, N, H]: as a plain bf16 computation would round
  int batch, query_tokens, key_tokens, query_heads, kv_heads, head_dim;
  double softmax_scale;
};

/// Waits for the result. Errors: DeviceError.
void run_reference(const ReferenceArgs& args);

struct ReferenceBackwardArgs {
  ReferenceArgs forward;      // done: its out and lse are read
  const __nv_bfloat16* dout;  // [B, Tq, N, H]
  float* lse;                 // [B, N, Tq], written: forward.lse in fp32
  float* delta;               // [B, N, Tq], written
  double* dquery;             // [B, Tq, N, H], written
  double* dkey;               // [B, Tk, K, H], added to
  double* dvalue;             // [B, Tk, K, H], added to
};
/// Waits for the result. Errors: DeviceError.
void run_reference_backward(const ReferenceBackwardArgs& args);

}  // namespace ringtrain::bench
