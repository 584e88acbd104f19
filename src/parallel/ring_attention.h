#pragma once

#include <memory>
#include <span>
#include <vector>

#include "attention_steps.h"
#include "gradient_travel.h"
#include "ringtrain/parallel/layer_messages.h"

namespace ringtrain {

/// Attention whose keys and values rotate: at step i of P this member of the ring has those of
/// member r - i, and while it attends to them they travel on.
class RingAttention {
 public:
  /// `context` and `steps` must outlive this. Gradients travel in `gradient_dtype`.
  RingAttention(Context& context, AttentionSteps& steps, DType gradient_dtype);

  /// While this rank's exchange of heads may be under way, `free_processors` are left to it.
  void forward(const SequenceAttention::Forward& args, int free_processors);
  void backward(const SequenceAttention::Backward& args, Tensor delta);

 private:
  int num_ranks() const { return hops_.group().size(); }
  int rank() const { return hops_.group().rank(); }
  // The rank whose keys are here at step `step` of the rotation.
  int owner(int step) const { return (rank() - step + num_ranks()) % num_ranks(); }
  bool is_last(int step) const { return step + 1 == num_ranks(); }
  // Calls attend(step, key_value) with the block that is here at each step, on `streams`, of which
  // compute is the first.
  template <typename Attend>
  void rotate(const Tensor& key_value, std::span<Stream* const> streams, Attend&& attend);
  std::vector<Lane> lanes_of(const SequenceAttention::Forward& args) const;

  Context& context_;
  AttentionSteps& steps_;
  LayerMessages hops_;
  GradientTravel gradients_;
  std::unique_ptr<Event> arrived_;  // the last hop of keys and values
};

}  // namespace ringtrain
