#include "ring_attention.h"

#include <array>

namespace ringtrain {

RingAttention::RingAttention(Context& context, AttentionSteps& steps, DType gradient_dtype)
    : context_(context),
      steps_(steps),
      hops_(context, *context.mesh.ring),
      gradients_(context, hops_, gradient_dtype),
      arrived_(context.device.make_event()) {}

// Each half of the heads on a stream of its own, where that leaves communication what it wants:
// behind the last blocks of one half, the other begins.
std::vector<Lane> RingAttention::lanes_of(const SequenceAttention::Forward& args) const {
  const std::int64_t heads = args.query.size(2);
  const std::int64_t kv_heads = args.key_value.size(3);
  if (num_ranks() == 1 || kv_heads < 2 || hops_.group().free_processors() > 0 ||
      !steps_.overlap(args.query, args.key_value, args.lowest_visible)) {
    return {{&context_.compute, 0, 0}};
  }
  const std::int64_t half = kv_heads / 2 * (heads / kv_heads);
  return {{&context_.compute, 0, half}, {&context_.beside, half, heads - half}};
}

// A hop is posted before the step that hides it; it may start once the computing streams have
// finished with the buffer it fills (step i - 1).
template <typename Attend>
void RingAttention::rotate(const Tensor& key_value, std::span<Stream* const> streams,
                           Attend&& attend) {
  std::array<Tensor, 2> buffers;
  for (int i = 0; i < 2 && i < num_ranks() - 1; ++i) {
    buffers[static_cast<std::size_t>(i)] =
        context_.arena.allocate(key_value.shape(), key_value.dtype(), MemoryKind::kRing);
  }
  hops_.order(context_.compute, *streams.back());
  Tensor current = key_value;
  for (int step = 0; step < num_ranks(); ++step) {
    const Region region(context_.observer, context_.compute, {"ring step", nullptr, step});
    const Tensor next = buffers[static_cast<std::size_t>(step % 2)];
    if (!is_last(step)) {
      hops_.post("hop", step, std::array{to_next(hops_.group(), current, next)}, *arrived_,
                 streams);
    }
    attend(step, current);
    for (Stream* stream : streams) {
      if (!is_last(step)) hops_.wait("waiting for hop", step, *arrived_, *stream);
    }
    current = next;
  }
}

// Messages travel in order: when the last hop has arrived, so has every exchange of heads that was
// posted before.
void RingAttention::forward(const SequenceAttention::Forward& args, int free_processors) {
  AttentionSteps::Fold fold = steps_.begin(args.query);
  const std::vector<Lane> lanes = lanes_of(args);
  std::vector<Stream*> streams;
  for (const Lane& lane : lanes) streams.push_back(lane.stream);
  const int free_at_last = num_ranks() == 1 ? free_processors : 0;
  rotate(args.key_value, streams, [&](int step, const Tensor& key_value) {
    steps_.forward(args, fold, key_value, owner(step),
                   is_last(step) ? free_at_last : hops_.group().free_processors(), lanes);
  });
  hops_.order(*streams.back(), context_.compute);
}

// As forward; the gradients of a block follow it one hop behind, in two messages. At step i this
// rank adds its contribution to what the ranks before it have added, one message after the other,
// and sends each on while the next is computed, until they are with their owner again. The first
// message sets out at step 1: this rank adds its own part when it returns, behind which the second
// one's last hop is hidden. Where steps may overlap, each message has a stream that computes, and
// the second takes what the first leaves idle in its last blocks.
void RingAttention::backward(const SequenceAttention::Backward& args, Tensor delta) {
  if (num_ranks() == 1) {
    steps_.backward(args, delta, args.key_value, rank(), args.dkey_value, {whole(args.key_value)},
                    true, context_.compute);
    return;
  }
  gradients_.begin(args.dkey_value);
  const GradientMessages messages = messages_of(args.key_value);
  std::vector<Stream*> streams{&context_.compute};
  if (steps_.overlap(args.query, args.key_value, args.lowest_visible)) {
    streams.push_back(&context_.beside);
  }
  rotate(args.key_value, streams, [&](int step, const Tensor& key_value) {
    for (std::size_t m = 0; m < kNumGradientMessages; ++m) {
      const int first = m == 0 ? 1 : 0;
      if (step < first) continue;
      Stream& stream = m == 0 ? *streams.front() : *streams.back();
      if (step > first) gradients_.receive(m, messages[m], step - 1, stream);
      steps_.backward(args, delta, key_value, owner(step), gradients_.sum(step), messages[m],
                      step == first, stream);
      gradients_.send(m, messages[m], step, stream);
    }
  });
  hops_.order(*streams.back(), context_.compute);
  gradients_.receive(0, messages[0], num_ranks() - 1, context_.compute);
  steps_.backward(args, delta, args.key_value, rank(), args.dkey_value, messages[0], false,
                  context_.compute);
  gradients_.receive(1, messages[1], num_ranks() - 1, context_.compute);
}

}  // namespace ringtrain
