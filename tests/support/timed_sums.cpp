#include "support/timed_sums.h"

#include <string>
#include <utility>

#include "ringtrain/core/cpu_stream.h"

namespace ringtrain {
namespace {

class TimedSums final : public Communicator {
 public:
  TimedSums(SumTime time, std::unique_ptr<Communicator> group)
      : time_(time), group_(std::move(group)) {}

  const std::string& name() const override { return group_->name(); }
  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }
  std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                      int processors) override {
    return with_sums(time_, group_->split(std::move(name), color, key, processors));
  }

  void all_reduce(Tensor inout, ReduceOp op, Stream& stream) override {
    CpuStream::of(stream).defer([=, this] {
      group_->all_reduce(inout, op, stream_);
      stream_.complete();
    });
    if (time_ == SumTime::kAtOnce) CpuStream::of(stream).complete();
  }
  void all_gather(Tensor shard, Tensor whole, Stream& stream) override {
    group_->all_gather(shard, whole, stream);
  }
  void reduce_scatter(Tensor whole, Tensor shard, ReduceOp op, Stream& stream) override {
    group_->reduce_scatter(whole, shard, op, stream);
  }
  void all_to_all(Tensor sent, Tensor received, Stream& stream) override {
    group_->all_to_all(sent, received, stream);
  }
  void broadcast(Tensor inout, int root, Stream& stream) override {
    group_->broadcast(inout, root, stream);
  }
  void exchange(std::span<const Transfer> transfers, Stream& stream) override {
    group_->exchange(transfers, stream);
  }
  void check() override { group_->check(); }
  void abort() noexcept override { group_->abort(); }

 private:
  SumTime time_;
  std::unique_ptr<Communicator> group_;
  CpuStream stream_;
};

}  // namespace

std::unique_ptr<Communicator> with_sums(SumTime time, std::unique_ptr<Communicator> group) {
  return std::make_unique<TimedSums>(time, std::move(group));
}

}  // namespace ringtrain
