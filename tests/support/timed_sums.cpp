#include "support/timed_sums.h"

#include <string>
#include <utility>

#include "ringtrain/comm/forwarding_communicator.h"
#include "ringtrain/core/cpu_stream.h"

namespace ringtrain {
namespace {

class TimedSums final : public ForwardingCommunicator {
 public:
  TimedSums(SumTime time, std::unique_ptr<Communicator> group)
      : ForwardingCommunicator(std::move(group)), time_(time) {}

  std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                      const MessageRoute& route) override {
    return with_sums(time_, group().split(std::move(name), color, key, route));
  }

  void all_reduce(Tensor inout, ReduceOp op, Stream& stream) override {
    CpuStream::of(stream).defer([=, this] {
      group().all_reduce(inout, op, stream_);
      stream_.complete();
    });
    if (time_ == SumTime::kAtOnce) CpuStream::of(stream).complete();
  }

 private:
  SumTime time_;
  CpuStream stream_;
};

}  // namespace

std::unique_ptr<Communicator> with_sums(SumTime time, std::unique_ptr<Communicator> group) {
  return std::make_unique<TimedSums>(time, std::move(group));
}

}  // namespace ringtrain
