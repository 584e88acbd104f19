#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "ringtrain/ops/attention_segment.h"

namespace ringtrain::kernels {

/// How dkey and dvalue are put where they belong. Rounding takes one adder for each of them, which
/// is slow where few key heads with many query heads leave the GPU without enough blocks.
enum class KeyGradient { kAdd, kWrite, kRoundAndWrite };  // fp32, fp32, bf16

/// Gradients of one step of attention on Hopper's tensor cores; letters and meaning as in
/// ringtrain::AttentionBackwardArgs. bf16 in, fp32 sums and gradients, any number of tokens. The
/// four bf16 tensors and dquery are 16-byte aligned.
struct AttentionBackwardSm90Args {
  const void* query;   // [B, Tq, N, H] bf16
  const void* key;     // [B, Tk, K, H] bf16
  const void* value;   // [B, Tk, K, H] bf16
  const void* dout;    // [B, Tq, N, H] bf16
  const float* lse;    // [B, N, Tq]
  const float* delta;  // [B, N, Tq]
  float* dquery;       // [B, Tq, N, H], added to
  void* dkey;          // [B, Tk, K, H], what key_gradient says
  void* dvalue;        // [B, Tk, K, H], the same
  std::int64_t batch;
  int query_tokens;
  int key_tokens;
  int query_heads;
  int kv_heads;              // divides query_heads
  int head_dim;              // a multiple of 8, at most 128
  float softmax_scale;       // positive
  AttentionSegment visible;  // query rows outside it see no key
  // Keys [skipped_key, skipped_key + skipped_keys) of all take no part and their gradients stay:
  // see attention_backward_sm90_skips.
  int skipped_key = 0;
  int skipped_keys = 0;
  // [B, Tq], ascending along Tq: rows see no key before it, counted from visible.k0; or null
  const int* lowest = nullptr;
  // attention_backward_sm90_scratch_bytes of scratch: dquery is summed in a fixed order, so equal
  // inputs give equal bits. Null: in any order, which is faster.
  void* scratch = nullptr;
  KeyGradient key_gradient = KeyGradient::kAdd;
};

/// Whether the skipped keys, if any, can be left out of a launch: whole tiles of 128 between others
/// of one sequence, where no order of sums is asked for.
bool attention_backward_sm90_skips(const AttentionBackwardSm90Args& args);

std::size_t attention_backward_sm90_scratch_bytes(const AttentionBackwardSm90Args& args);

/// Enqueues the step on `stream` and returns without waiting.
/// Errors: InvalidArgument for another head_dim or misaligned tensors; DeviceError if the launch is
/// refused.
void launch_attention_backward_sm90(const AttentionBackwardSm90Args& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
