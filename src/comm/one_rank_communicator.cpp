#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "collective_check.h"
#include "mpi_support.h"
#include "ringtrain/comm/communicator.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

class OneRankCommunicator final : public Communicator {
 public:
  OneRankCommunicator(std::string name, Device& device) : name_(std::move(name)), device_(device) {}

  const std::string& name() const override { return name_; }
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int free_processors() const override { return 0; }
  std::unique_ptr<Communicator> split(std::string name, int, int, const MessageRoute&) override {
    return std::make_unique<OneRankCommunicator>(std::move(name), device_);
  }

  void all_reduce(Tensor inout, ReduceOp, Stream&) override {
    check_reducible("all_reduce", name_, inout);
  }
  void all_gather(Tensor shard, Tensor whole, Stream& stream) override {
    check_parts("all_gather", name_, 1, shard, whole);
    copy(whole, shard, stream);
  }
  void reduce_scatter(Tensor whole, Tensor shard, ReduceOp, Stream& stream) override {
    check_reducible("reduce_scatter", name_, whole);
    check_parts("reduce_scatter", name_, 1, shard, whole);
    copy(shard, whole, stream);
  }
  void all_to_all(Tensor sent, Tensor received, Stream& stream) override {
    check_all_to_all(name_, 1, sent, received);
    copy(received, sent, stream);
  }
  void broadcast(Tensor, int root, Stream&) override { check_rank("broadcast", name_, 1, root); }
  void exchange(std::span<const Transfer> transfers, Stream& stream) override {
    check_exchange(name_, 1, transfers);
    // The k-th message sent is the k-th received; the two may stand in different transfers.
    std::deque<Tensor> sent;
    for (const Transfer& transfer : transfers) {
      if (transfer.sent) sent.push_back(transfer.sent);
    }
    for (const Transfer& transfer : transfers) {
      if (!transfer.received) continue;
      if (sent.empty()) throw InvalidArgument("exchange on group " + name_ + ": nothing was sent");
      check_parts("exchange", name_, 1, sent.front(), transfer.received);
      copy(transfer.received, sent.front(), stream);
      sent.pop_front();
    }
  }
  void check() override {}
  void abort() noexcept override { abort_world(static_cast<int>(ExitCode::kDevice)); }

 private:
  void copy(const Tensor& to, const Tensor& from, Stream& stream) {
    if (to.raw() == from.raw() || from.bytes() == 0) return;
    device_.copy_on_device(to.raw(), from.raw(), from.bytes(), stream);
  }

  std::string name_;
  Device& device_;
};

}  // namespace

std::unique_ptr<Communicator> make_one_rank_communicator(Device& device) {
  return std::make_unique<OneRankCommunicator>("world", device);
}

}  // namespace ringtrain
