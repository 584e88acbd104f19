#pragma once

#include <cstdint>

#include "ringtrain/parallel/sequence_attention.h"

namespace ringtrain {

/// A mesh of one rank, whose groups have nobody else.
Mesh one_rank_mesh(Device& device);

/// What a rank attends to in one layer, after tp has cut the heads.
struct AttentionWork {
  SequenceLayout layout;
  std::int64_t batch, heads, kv_heads, head_dim;
};

/// One layer's attention as a rank runs it in a step: its tensors and its schedule.
class RankAttention {
 public:
  /// The place of `context` on its mesh says which rank. Tensors lie in its arena, undefined.
  RankAttention(Context& context, const AttentionWork& work,
                const SequenceAttentionOptions& options);

  void forward() { attention_.forward({query, key_value, {}, out, lse}); }
  void backward() {
    attention_.backward({query, key_value, {}, out, lse, dout, dquery, dkey_value});
  }
  /// Seeds other numbers for every sp rank into query, key, value and the gradient of the output.
  void draw_inputs();

  Tensor query, key_value, out, lse, dout, dquery, dkey_value;

 private:
  Context& context_;
  SequenceAttention attention_;
};

}  // namespace ringtrain
