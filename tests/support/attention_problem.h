#pragma once

#include <cstdint>
#include <vector>

#include "support/test_device.h"

namespace ringtrain {

/// Inputs of attention and of its gradient; letters as in ops/backend.h.
struct AttentionProblem {
  HostTensor query;                           ///< [B, Tq, N, H]
  HostTensor key;                             ///< [B, Tk, K, H]
  HostTensor value;                           ///< [B, Tk, K, H]
  HostTensor dout;                            ///< [B, Tq, N, H]
  std::vector<std::int32_t> query_positions;  ///< [Tq]
  std::vector<std::int32_t> key_positions;    ///< [Tk]
  std::vector<std::int32_t> lowest_visible;   ///< [B, Tq], or empty: no documents
  bool causal = true;
  float softmax_scale = 1;
  std::int64_t query_chunk_size = 0;
  std::int64_t key_chunk_size = 0;
  int free_processors = 0;        ///< as in AttentionForwardArgs
  bool rounds_key_value = false;  ///< dkey and dvalue are written in the compute type
  SkippedKeys skipped = {};       ///< as in AttentionBackwardArgs, of one step; there NaN stays
};

struct AttentionResult {
  HostTensor out;     ///< [B, Tq, N, H]
  HostTensor lse;     ///< [B, N, Tq]
  HostTensor dquery;  ///< [B, Tq, N, H]
  HostTensor dkey;    ///< [B, Tk, K, H]
  HostTensor dvalue;  ///< [B, Tk, K, H]
};

/// Positions 0 .. count - 1, `offset` added.
std::vector<std::int32_t> ascending(std::int64_t count, std::int32_t offset = 0);
/// Positions of chunks `rank` and 2 ranks - 1 - rank of a sequence of 2 ranks chunks.
std::vector<std::int32_t> zigzag(std::int32_t rank, std::int32_t ranks, std::int32_t chunk);

/// Random normal inputs with positions 0, 1, ... and scale 1 / sqrt(H), rounded to `dtype`.
AttentionProblem random_attention(Shape query, std::int64_t num_keys, std::int64_t kv_heads,
                                  std::uint64_t seed, DType dtype = DType::kFloat64);

/// Forward and backward by the operations of `device`, as one rank of a ring does it: the keys in
/// `num_steps` parts of nearly equal size, beginning with part `first_part` and going down,
/// through `first`, `last` and gradients added step by step.
AttentionResult attend(TestDevice& device, DType dtype, const AttentionProblem& problem,
                       int num_steps = 1, int first_part = 0);

/// The same by the definition: all scores at once, in double, each intermediate result rounded to
/// `dtype`. In bf16 the rival of `rivals`, in fp64 an oracle written another way.
AttentionResult attend_plainly(const AttentionProblem& problem, DType dtype);

}  // namespace ringtrain
