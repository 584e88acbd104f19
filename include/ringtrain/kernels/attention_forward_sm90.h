#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ringtrain/ops/attention_segment.h"

namespace ringtrain::kernels {

/// One step of attention on Hopper's tensor cores; letters and the running state (partial, lse) as
/// in ringtrain::AttentionForwardArgs. bf16 in, fp32 sums, any number of tokens. The four bf16
/// tensors are 16-byte aligned.
struct AttentionForwardSm90Args {
  const void* query;  // [B, Tq, N, H] bf16
  const void* key;    // [B, Tk, K, H] bf16
  const void* value;  // [B, Tk, K, H] bf16
  void* out;          // [B, Tq, N, H] bf16: written if last, else may be null
  float* partial;     // [B, Tq, N, H]: read unless first, written unless last
  float* lse;         // [B, N, Tq]: read unless first, written
  std::int64_t batch;
  int query_tokens;
  int key_tokens;
  int query_heads;
  int kv_heads;              // divides query_heads
  int head_dim;              // a multiple of 8, at most 128
  float softmax_scale;       // positive
  AttentionSegment visible;  // query rows outside it see no key
  // Query heads [first_head, first_head + num_heads) of N; multiples of N / K. Others stay.
  int first_head = 0;
  int num_heads = 0;  // 0: all
  // [B, Tq], ascending along Tq: rows see no key before it, counted from visible.k0; or null
  const int* lowest = nullptr;
  bool first;
  bool last;
  int free_processors = 0;  // SMs left to communication kernels; at least one is used
  int max_blocks = 0;       // SMs to use; 0 for all others
};

/// Enqueues the step on `stream` and returns without waiting. Of launches that may overlap on the
/// device there are fewer than 64 others between any two: so many counters of tiles go round.
/// Errors: InvalidArgument for another head_dim or misaligned tensors; DeviceError if the launch is
/// refused.
void launch_attention_forward_sm90(const AttentionForwardSm90Args& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
