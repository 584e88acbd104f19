#include "gradient_travel.h"

#include <vector>

namespace ringtrain {

// While one message travels, the gradients of the other are computed, so each has half of the
// work of a step, whichever keys are visible: half of the sequences, or of a single one the middle
// half of the keys and the two quarters around it, since zigzag shows all keys or the first half.
GradientMessages messages_of(const Tensor& key_value) {
  const std::int64_t sequences = key_value.size(1);
  const std::int64_t tokens = key_value.size(2);
  if (sequences > 1) {
    const std::int64_t half = sequences / 2;
    return {{{{0, half, 0, tokens}}, {{half, sequences - half, 0, tokens}}}};
  }
  GradientMessages messages;
  const auto add = [&](std::size_t message, std::int64_t begin, std::int64_t end) {
    if (begin < end) messages[message].push_back({0, 1, begin, end - begin});
  };
  const std::int64_t first = tokens / 4;
  const std::int64_t last = tokens * 3 / 4;
  add(0, first, last);
  add(1, 0, first);
  add(1, last, tokens);
  return messages;
}

Transfer to_next(const Communicator& ring, Tensor sent, Tensor received) {
  const int size = ring.size();
  return {sent, (ring.rank() + 1) % size, received, (ring.rank() + size - 1) % size};
}

GradientTravel::GradientTravel(Context& context, LayerMessages& hops, DType dtype)
    : context_(context), hops_(hops), dtype_(dtype) {
  for (auto& event : returned_) event = context.device.make_event();
}

void GradientTravel::begin(Tensor dkey_value) {
  const auto allocate = [&] {
    return context_.arena.allocate(dkey_value.shape(), dtype_, MemoryKind::kRing);
  };
  sums_[0] = dkey_value;
  if (dtype_ == DType::kFloat32) {
    sums_[1] = allocate();
  } else {
    rounded_ = allocate();
    received_ = allocate();
  }
}

Tensor GradientTravel::sum(int step) const {
  return rounded_ ? sums_[0] : sums_[static_cast<std::size_t>(hops_.group().size() - step) % 2];
}

void GradientTravel::send(std::size_t m, const KeyParts& message, int step, Stream& stream) {
  const Tensor sent = rounded_ ? rounded_ : sum(step);
  const Tensor received = rounded_ ? received_ : sum(step + 1);
  if (rounded_) cast_parts(message, sum(step), sent, stream);
  std::vector<Transfer> transfers;
  for (const KeyPart& part : message) {
    for (int i = 0; i < 2; ++i) {
      transfers.push_back(
          to_next(hops_.group(), part_of(sent[i], part), part_of(received[i], part)));
    }
  }
  hops_.post("gradient hop", step, transfers, *returned_[m], std::array{&stream});
}

void GradientTravel::receive(std::size_t m, const KeyParts& message, int step, Stream& stream) {
  hops_.wait("waiting for gradient hop", step, *returned_[m], stream);
  if (rounded_) cast_parts(message, received_, sum(step + 1), stream);
}

void GradientTravel::cast_parts(const KeyParts& message, Tensor in, Tensor out, Stream& stream) {
  for (const KeyPart& part : message) {
    for (int i = 0; i < 2; ++i) {
      context_.ops.cast(part_of(in[i], part), part_of(out[i], part), stream);
    }
  }
}

}  // namespace ringtrain
