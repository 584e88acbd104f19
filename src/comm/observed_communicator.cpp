#include <memory>
#include <string>
#include <utility>

#include "ringtrain/comm/forwarding_communicator.h"
#include "ringtrain/comm/wire_bytes.h"

namespace ringtrain {
namespace {

class ObservedCommunicator final : public ForwardingCommunicator {
 public:
  ObservedCommunicator(std::unique_ptr<Communicator> group, StepObserver& observer)
      : ForwardingCommunicator(std::move(group)), observer_(observer) {}

  std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                      const MessageRoute& route) override {
    return make_observed_communicator(group().split(std::move(name), color, key, route), observer_);
  }

  void all_reduce(Tensor inout, ReduceOp op, Stream& stream) override {
    const Region region(&observer_, stream, collective("all_reduce", inout));
    group().all_reduce(inout, op, stream);
  }
  void all_gather(Tensor shard, Tensor whole, Stream& stream) override {
    const Region region(&observer_, stream, collective("all_gather", whole));
    group().all_gather(shard, whole, stream);
  }
  void reduce_scatter(Tensor whole, Tensor shard, ReduceOp op, Stream& stream) override {
    const Region region(&observer_, stream, collective("reduce_scatter", whole));
    group().reduce_scatter(whole, shard, op, stream);
  }
  void all_to_all(Tensor sent, Tensor received, Stream& stream) override {
    const Region region(&observer_, stream, collective("all_to_all", sent));
    group().all_to_all(sent, received, stream);
  }
  void broadcast(Tensor inout, int root, Stream& stream) override {
    const bool is_last = (rank() + 1) % size() == root;  // of a ring that begins at the root
    const Region region(&observer_, stream, label("broadcast", is_last ? 0 : inout.bytes()));
    group().broadcast(inout, root, stream);
  }
  void exchange(std::span<const Transfer> transfers, Stream& stream) override {
    std::size_t bytes = 0;
    for (const Transfer& each : transfers) {
      if (each.sent && each.to != rank()) bytes += each.sent.bytes();
    }
    const Region region(&observer_, stream, label("exchange", bytes));
    group().exchange(transfers, stream);
  }

 private:
  Label label(const char* operation, std::size_t bytes) const {
    return {.what = operation, .group = name().c_str(), .bytes = bytes};
  }
  Label collective(const char* operation, const Tensor& whole) const {
    return label(operation, sent_bytes(operation, whole.bytes(), size()));
  }

  StepObserver& observer_;
};

}  // namespace

std::unique_ptr<Communicator> make_observed_communicator(std::unique_ptr<Communicator> group,
                                                         StepObserver& observer) {
  if (group->size() == 1) return group;
  return std::make_unique<ObservedCommunicator>(std::move(group), observer);
}

}  // namespace ringtrain
