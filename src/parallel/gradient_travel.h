#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "attention_steps.h"
#include "ringtrain/parallel/layer_messages.h"

namespace ringtrain {

/// In which the gradients of a block travel: parts of it, by message.
inline constexpr std::size_t kNumGradientMessages = 2;
using GradientMessages = std::array<KeyParts, kNumGradientMessages>;
GradientMessages messages_of(const Tensor& key_value);

/// From this member of the ring to the next, what it receives from the one before.
Transfer to_next(const Communicator& ring, Tensor sent, Tensor received);

/// The gradients of the block that is here, on their way around the ring. Where they travel in bf16
/// their sums stay in fp32 and are rounded for every hop, on the stream that computes them.
class GradientTravel {
 public:
  /// Travels by `hops`, which must outlive this, in `dtype`.
  GradientTravel(Context& context, LayerMessages& hops, DType dtype);

  /// From now on gradients end in `dkey_value`, [2, B, T, K, H] fp32; what they need on the way
  /// lies in the innermost scope of the arena.
  void begin(Tensor dkey_value);
  /// What step `step` adds to.
  Tensor sum(int step) const;
  /// Sends message `m`, once `stream` has computed it, from the sum of `step` to that of the next.
  void send(std::size_t m, const KeyParts& message, int step, Stream& stream);
  /// Lets `stream` wait for what was sent at `step`.
  void receive(std::size_t m, const KeyParts& message, int step, Stream& stream);

 private:
  void cast_parts(const KeyParts& message, Tensor in, Tensor out, Stream& stream);

  Context& context_;
  LayerMessages& hops_;
  DType dtype_;
  // Sums in fp32, which steps add to by turns such that the last ones arrive in dkey_value.
  std::array<Tensor, 2> sums_;
  // Messages, where they travel in bf16; else the sums are what travels, from one to the other.
  Tensor rounded_, received_;
  std::array<std::unique_ptr<Event>, kNumGradientMessages> returned_;  // their last hops
};

}  // namespace ringtrain
