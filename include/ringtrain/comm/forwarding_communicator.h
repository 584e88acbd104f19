#pragma once

#include <memory>
#include <string>
#include <utility>

#include "ringtrain/comm/communicator.h"

namespace ringtrain {

/// Another group, for those who change some of its operations.
class ForwardingCommunicator : public Communicator {
 public:
  const std::string& name() const override { return group_->name(); }
  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }
  std::string carrier() const override { return group_->carrier(); }
  int free_processors() const override { return group_->free_processors(); }

  void all_reduce(Tensor inout, ReduceOp op, Stream& stream) override {
    group_->all_reduce(inout, op, stream);
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
  void release() override { group_->release(); }
  void check() override { group_->check(); }
  void abort() noexcept override { group_->abort(); }

 protected:
  explicit ForwardingCommunicator(std::unique_ptr<Communicator> group) : group_(std::move(group)) {}
  Communicator& group() { return *group_; }

 private:
  std::unique_ptr<Communicator> group_;
};

}  // namespace ringtrain
