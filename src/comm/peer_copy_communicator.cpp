#include "peer_copy_communicator.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "collective_check.h"
#include "peer_links.h"
#include "ringtrain/comm/forwarding_communicator.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

cudaStream_t native(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.native());
}

/// What goes to one rank of a group, or comes from it, in order.
struct Message {
  int peer;
  std::vector<Tensor> tensors;
};

void append(std::vector<Message>& messages, int peer, const Tensor& tensor) {
  for (Message& message : messages) {
    if (message.peer == peer) return message.tensors.push_back(tensor);
  }
  messages.push_back({peer, {tensor}});
}

std::size_t length(const Tensor& tensor) {
  return tensor.bytes();
}
std::size_t length(const SharedStretch& stretch) {
  return stretch.bytes;
}
/// Whether tensors, one after the other, are as long as the places where they go.
template <typename Place>
bool fit(const std::vector<Place>& places, const std::vector<Tensor>& tensors) {
  return std::equal(places.begin(), places.end(), tensors.begin(), tensors.end(),
                    [](const Place& a, const Tensor& b) { return length(a) == length(b); });
}

class PeerCopyCommunicator final : public ForwardingCommunicator {
 public:
  PeerCopyCommunicator(std::unique_ptr<Communicator> group, std::unique_ptr<PeerLinks> links,
                       Device& device)
      : ForwardingCommunicator(std::move(group)),
        links_(std::move(links)),
        device_(device),
        done_(device.make_event()) {}
  ~PeerCopyCommunicator() override {
    if (std::uncaught_exceptions() > 0) return;
    try {
      done_->synchronise();  // behind the last copy of a peer into this rank's memory
    } catch (const Error&) {
      abort();
    }
  }
  PeerCopyCommunicator(const PeerCopyCommunicator&) = delete;
  PeerCopyCommunicator& operator=(const PeerCopyCommunicator&) = delete;

  std::string carrier() const override { return "copy engines"; }
  int free_processors() const override { return 0; }
  std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                      const MessageRoute& route) override {
    return group().split(std::move(name), color, key, route);
  }
  void release() override {
    done_->synchronise();
    links_->release();
  }
  void all_to_all(Tensor sent, Tensor received, Stream& stream) override;
  void exchange(std::span<const Transfer> transfers, Stream& stream) override;

 private:
  void expect(const Message& message, Stream& stream);
  void send(const Message& message, Stream& stream);

  std::unique_ptr<PeerLinks> links_;
  Device& device_;
  std::unique_ptr<Event> done_;  // all that was enqueued, on whichever stream
};

void PeerCopyCommunicator::all_to_all(Tensor sent, Tensor received, Stream& stream) {
  check_all_to_all(name(), size(), sent, received);
  const std::int64_t part = sent.num_elements() / size();
  const Tensor from = sent.reshape({sent.num_elements()});
  const Tensor to = received.reshape({received.num_elements()});
  std::vector<Transfer> transfers;
  for (int i = 0; i < size(); ++i) {  // so that at any time a rank receives from one other
    const int target = (rank() + i) % size();
    const int source = (rank() + size() - i) % size();
    transfers.push_back(
        {from.slice(target * part, part), target, to.slice(source * part, part), source});
  }
  exchange(transfers, stream);
}

// Before a rank waits for anything it says what it expects where, and that this memory may be
// written to: so nobody waits in a circle, in whichever order peers are served.
void PeerCopyCommunicator::exchange(std::span<const Transfer> transfers, Stream& stream) {
  check_exchange(name(), size(), transfers);
  std::vector<Message> sent, expected;
  Message to_self{rank(), {}}, from_self{rank(), {}};
  for (const Transfer& each : transfers) {
    if (each.sent && each.to == rank()) {
      to_self.tensors.push_back(each.sent);
    } else if (each.sent) {
      append(sent, each.to, each.sent);
    }
    if (each.received && each.from == rank()) {
      from_self.tensors.push_back(each.received);
    } else if (each.received) {
      append(expected, each.from, each.received);
    }
  }
  if (!fit(from_self.tensors, to_self.tensors)) {
    throw InvalidArgument(
        fmt::format("exchange on group {}: what rank {} sends to itself is not "
                    "what it receives from there",
                    name(), rank()));
  }
  stream.wait(*done_);
  for (const Message& message : expected) expect(message, stream);
  for (const Message& message : sent) send(message, stream);
  links_->finish_telling();
  for (std::size_t i = 0; i < to_self.tensors.size(); ++i) {
    const Tensor& tensor = to_self.tensors[i];
    device_.copy_on_device(from_self.tensors[i].raw(), tensor.raw(), tensor.bytes(), stream);
  }
  for (const Message& message : expected) {
    links_->signals().wait(PeerSignals::kArrived, message.peer, native(stream));
  }
  stream.record(*done_);
}

void PeerCopyCommunicator::expect(const Message& message, Stream& stream) {
  std::string places;
  for (const Tensor& tensor : message.tensors) {
    const SharedStretch place = links_->exporter().share(tensor.raw(), tensor.bytes());
    places.append(reinterpret_cast<const char*>(&place), sizeof place);
  }
  if (places.size() > World::kBufferedBytes) {  // both would wait for the other to hear it
    throw InvalidArgument(fmt::format("exchange on group {}: {} tensors of rank {} are too many",
                                      name(), message.tensors.size(), message.peer));
  }
  links_->tell(message.peer, places);
  links_->signals().send(PeerSignals::kRoom, message.peer, native(stream));
}

void PeerCopyCommunicator::send(const Message& message, Stream& stream) {
  const std::string text = links_->hear(message.peer);
  std::vector<SharedStretch> places(text.size() / sizeof(SharedStretch));
  std::memcpy(places.data(), text.data(), places.size() * sizeof(SharedStretch));
  if (!fit(places, message.tensors)) {
    throw DeviceError(
        fmt::format("exchange on group {}: the {} tensors that rank {} sends to rank {} are not as "
                    "long as the {} that are expected there",
                    name(), message.tensors.size(), rank(), message.peer, places.size()));
  }
  links_->signals().wait(PeerSignals::kRoom, message.peer, native(stream));
  for (std::size_t i = 0; i < places.size(); ++i) {
    const Tensor& tensor = message.tensors[i];
    device_.copy_on_device(links_->importer().map(places[i]), tensor.raw(), tensor.bytes(), stream);
  }
  links_->signals().send(PeerSignals::kArrived, message.peer, native(stream));
}

/// A group that was to have copy engines, and says why it has not.
class HinderedCommunicator final : public ForwardingCommunicator {
 public:
  HinderedCommunicator(std::unique_ptr<Communicator> group, std::string hindrance)
      : ForwardingCommunicator(std::move(group)), hindrance_(std::move(hindrance)) {}

  std::string carrier() const override {
    return fmt::format("{}, not copy engines: {}", ForwardingCommunicator::carrier(), hindrance_);
  }
  std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                      const MessageRoute& route) override {
    return group().split(std::move(name), color, key, route);
  }

 private:
  std::string hindrance_;
};

}  // namespace

std::unique_ptr<Communicator> with_peer_copies(std::unique_ptr<Communicator> group, int color,
                                               Transport transport, std::shared_ptr<World> plane,
                                               Device& device) {
  auto links = std::make_unique<PeerLinks>(group->rank(), group->size(), std::move(plane), device);
  const auto hindrance = links->connect(color);
  if (!hindrance) {
    return std::make_unique<PeerCopyCommunicator>(std::move(group), std::move(links), device);
  }
  if (transport == Transport::kAuto) {
    return std::make_unique<HinderedCommunicator>(std::move(group), *hindrance);
  }
  throw DeviceError(fmt::format(
      "copy engines cannot carry the messages of group {}: {}; leave --ring_transport at auto",
      group->name(), *hindrance));
}

}  // namespace ringtrain
