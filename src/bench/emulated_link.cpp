#include "ringtrain/bench/emulated_link.h"

#include <fmt/format.h>

#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

[[noreturn]] void refuse(const char* operation) {
  throw InvalidArgument(fmt::format("an emulated link carries hops only, no {}", operation));
}

}  // namespace

EmulatedLink::EmulatedLink(Device& device, int rank, int size)
    : device_(device), rank_(rank), size_(size) {}

void EmulatedLink::replay(const SentMessages* replayed, SentMessages* kept) {
  replayed_ = replayed;
  kept_ = kept;
  num_messages_ = 0;
}

std::unique_ptr<Communicator> EmulatedLink::split(std::string, int, int, const MessageRoute&) {
  refuse("split");
}
void EmulatedLink::all_reduce(Tensor, ReduceOp, Stream&) {
  refuse("all_reduce");
}
void EmulatedLink::all_gather(Tensor, Tensor, Stream&) {
  refuse("all_gather");
}
void EmulatedLink::reduce_scatter(Tensor, Tensor, ReduceOp, Stream&) {
  refuse("reduce_scatter");
}
void EmulatedLink::all_to_all(Tensor, Tensor, Stream&) {
  refuse("all_to_all");
}
void EmulatedLink::broadcast(Tensor, int, Stream&) {
  refuse("broadcast");
}

/// Where a message that is received lies; keeps the one that is sent meanwhile.
const void* EmulatedLink::source_of(const Tensor& sent, Stream& stream) {
  const std::size_t n = num_messages_++;
  if (kept_ != nullptr) {
    if (kept_->size() == n) kept_->push_back(std::make_unique<DeviceMemory>(device_, sent.bytes()));
    device_.copy_on_device(kept_->at(n)->data(), sent.raw(), sent.bytes(), stream);
  }
  return replayed_ != nullptr && n < replayed_->size() ? replayed_->at(n)->data() : sent.raw();
}

void EmulatedLink::exchange(std::span<const Transfer> transfers, Stream& stream) {
  if (copier_ == nullptr) return;
  std::vector<CopyPiece> message;
  for (const Transfer& each : transfers) {
    if (each.to != (rank_ + 1) % size_ || each.from != (rank_ + size_ - 1) % size_ || !each.sent ||
        each.sent.bytes() != each.received.bytes()) {
      refuse("message that is no hop around the ring");
    }
    message.push_back({each.received.raw(), source_of(each.sent, stream), each.sent.bytes()});
  }
  if (!message.empty()) copier_->copy(message, stream);
}

}  // namespace ringtrain
