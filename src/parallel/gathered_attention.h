#pragma once

#include "attention_steps.h"

namespace ringtrain {

/// Attention whose keys and values are all-gathered before it, and whose gradients of them are
/// reduce-scattered after it, on the compute stream.
class GatheredAttention {
 public:
  /// Both must outlive this.
  GatheredAttention(Context& context, AttentionSteps& steps) : context_(context), steps_(steps) {}

  /// `free_processors` are left to the exchange of other heads.
  void forward(const SequenceAttention::Forward& args, int free_processors);
  void backward(const SequenceAttention::Backward& args, Tensor delta);

 private:
  Tensor gather(Tensor key_value);

  Context& context_;
  AttentionSteps& steps_;
};

}  // namespace ringtrain
