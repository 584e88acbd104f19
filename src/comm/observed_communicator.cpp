#include <memory>
#include <string>
#include <utility>

#include "ringtrain/comm/communicator.h"
#include "ringtrain/comm/wire_bytes.h"

namespace ringtrain {
namespace {

class ObservedCommunicator final : public Communicator {
 public:
  ObservedCommunicator(std::unique_ptr<Communicator> group, StepObserver& observer)
      : group_(std::move(group)), observer_(observer) {}

  const std::string& name() const override { return group_->name(); }
  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }
  std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                      int processors) override {
    return make_observed_communicator(group_->split(std::move(name), color, key, processors),
                                      observer_);
  }

  void all_reduce(Tensor inout, ReduceOp op, Stream& stream) override {
    const Region region(&observer_, stream, collective("all_reduce", inout));
    group_->all_reduce(inout, op, stream);
  }
  void all_gather(Tensor shard, Tensor whole, Stream& stream) override {
    const Region region(&observer_, stream, collective("all_gather", whole));
    group_->all_gather(shard, whole, stream);
  }
  void reduce_scatter(Tensor whole, Tensor shard, ReduceOp op, Stream& stream) override {
    const Region region(&observer_, stream, collective("reduce_scatter", whole));
    group_->reduce_scatter(whole, shard, op, stream);
  }
  void all_to_all(Tensor sent, Tensor received, Stream& stream) override {
    const Region region(&observer_, stream, collective("all_to_all", sent));
    group_->all_to_all(sent, received, stream);
  }
  void broadcast(Tensor inout, int root, Stream& stream) override {
    const bool is_last = (rank() + 1) % size() == root;  // of a ring that begins at the root
    const Region region(&observer_, stream, label("broadcast", is_last ? 0 : inout.bytes()));
    group_->broadcast(inout, root, stream);
  }
  void exchange(std::span<const Transfer> transfers, Stream& stream) override {
    std::size_t bytes = 0;
    for (const Transfer& each : transfers) {
      if (each.sent && each.to != rank()) bytes += each.sent.bytes();
    }
    const Region region(&observer_, stream, label("exchange", bytes));
    group_->exchange(transfers, stream);
  }
  void check() override { group_->check(); }
  void abort() noexcept override { group_->abort(); }

 private:
  Label label(const char* operation, std::size_t bytes) const {
    return {.what = operation, .group = name().c_str(), .bytes = bytes};
  }
  Label collective(const char* operation, const Tensor& whole) const {
    return label(operation, sent_bytes(operation, whole.bytes(), size()));
  }

  std::unique_ptr<Communicator> group_;
  StepObserver& observer_;
};

}  // namespace

std::unique_ptr<Communicator> make_observed_communicator(std::unique_ptr<Communicator> group,
                                                         StepObserver& observer) {
  if (group->size() == 1) return group;
  return std::make_unique<ObservedCommunicator>(std::move(group), observer);
}

}  // namespace ringtrain
