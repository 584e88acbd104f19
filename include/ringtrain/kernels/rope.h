#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ringtrain/core/dtype.h"

namespace ringtrain::kernels {

/// Letters as in ops/backend.h: B batch, T tokens, N query heads, K key/value heads, H head_dim.
struct RopeSplitArgs {
  const void* qkv;                 // [B, T, N + 2K, H] compute
  const std::int32_t* positions;   // [T]
  const float* inverse_frequency;  // [H / 2]
  void* query;                     // [B, T, N, H] compute
  void* key_value;                 // [2, B, T, K, H] compute
  std::int64_t batch;
  std::int64_t tokens;
  int query_heads;
  int kv_heads;
  int head_dim;
  DType compute;
};
void launch_rope_split(const RopeSplitArgs& args, cudaStream_t stream);

struct RopeMergeArgs {
  const float* dquery;             // [B, T, N, H]
  const void* dkey_value;          // [2, B, T, K, H]
  DType dkey_value_type;           // fp32 or compute
  const std::int32_t* positions;   // [T]
  const float* inverse_frequency;  // [H / 2]
  void* dqkv;                      // [B, T, N + 2K, H] compute
  std::int64_t batch;
  std::int64_t tokens;
  int query_heads;
  int kv_heads;
  int head_dim;
  DType compute;
};
void launch_rope_merge(const RopeMergeArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
