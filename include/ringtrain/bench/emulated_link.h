#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "ringtrain/bench/paced_copy.h"
#include "ringtrain/comm/communicator.h"

namespace ringtrain {

/// What a rank of an emulated ring has sent, message by message.
using SentMessages = std::vector<std::unique_ptr<DeviceMemory>>;

/// One rank's place in a ring whose other ranks are not there. What it sends to the next rank is
/// copied to where it receives from the previous one, over an emulated link: a ring of ranks that
/// all hold the same. Or the previous rank's messages are replayed, when they have been kept.
/// Carries hops (`exchange`) only; all other operations throw InvalidArgument.
class EmulatedLink final : public Communicator {
 public:
  /// `device` outlives this.
  EmulatedLink(Device& device, int rank, int size);

  /// From now on messages travel by `copier`, which outlives its use; null: they never arrive, and
  /// the ring computes on what is in its buffers.
  void carry_by(PacedCopier* copier) { copier_ = copier; }
  /// From now on the n-th message received is replayed.at(n), where there is one, and those sent
  /// are put into `kept`. Either may be null; both outlive their use.
  void replay(const SentMessages* replayed, SentMessages* kept);

  const std::string& name() const override { return name_; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int free_processors() const override { return 0; }  // what it needs it takes
  std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                      const MessageRoute& route) override;
  void all_reduce(Tensor inout, ReduceOp op, Stream& stream) override;
  void all_gather(Tensor shard, Tensor whole, Stream& stream) override;
  void reduce_scatter(Tensor whole, Tensor shard, ReduceOp op, Stream& stream) override;
  void all_to_all(Tensor sent, Tensor received, Stream& stream) override;
  void broadcast(Tensor inout, int root, Stream& stream) override;
  void exchange(std::span<const Transfer> transfers, Stream& stream) override;
  void check() override {}
  void abort() noexcept override {}

 private:
  const void* source_of(const Tensor& sent, Stream& stream);

  Device& device_;
  std::string name_ = "sp";
  int rank_;
  int size_;
  PacedCopier* copier_ = nullptr;
  const SentMessages* replayed_ = nullptr;
  SentMessages* kept_ = nullptr;
  std::size_t num_messages_ = 0;  // since `replay`
};

}  // namespace ringtrain
