#include "support/late_operations.h"

#include <utility>
#include <vector>

#include "ringtrain/comm/forwarding_communicator.h"

namespace ringtrain {

template <typename Args>
void LateBackend::defer(void (Backend::*operation)(const Args&, Stream&), const Args& args,
                        Stream& stream) {
  CpuStream::of(stream).defer([=, this] { ((*cpu_).*operation)(args, now_); });
}

void LateBackend::fill(Tensor out, double value, Stream& stream) {
  CpuStream::of(stream).defer([=, this] { cpu_->fill(out, value, now_); });
}
void LateBackend::cast(Tensor in, Tensor out, Stream& stream) {
  CpuStream::of(stream).defer([=, this] { cpu_->cast(in, out, now_); });
}
void LateBackend::add(Tensor in, Tensor inout, Stream& stream) {
  CpuStream::of(stream).defer([=, this] { cpu_->add(in, inout, now_); });
}
void LateBackend::transpose(Tensor in, Tensor out, Stream& stream) {
  CpuStream::of(stream).defer([=, this] { cpu_->transpose(in, out, now_); });
}
void LateBackend::matmul(const MatmulArgs& args, Stream& stream) {
  defer(&Backend::matmul, args, stream);
}
void LateBackend::rms_norm(const RmsNormArgs& args, Stream& stream) {
  defer(&Backend::rms_norm, args, stream);
}
void LateBackend::rms_norm_backward(const RmsNormBackwardArgs& args, Stream& stream) {
  defer(&Backend::rms_norm_backward, args, stream);
}
void LateBackend::rope_split(const RopeSplitArgs& args, Stream& stream) {
  defer(&Backend::rope_split, args, stream);
}
void LateBackend::rope_merge(const RopeMergeArgs& args, Stream& stream) {
  defer(&Backend::rope_merge, args, stream);
}
void LateBackend::attention_forward(const AttentionForwardArgs& args, Stream& stream) {
  defer(&Backend::attention_forward, args, stream);
}
void LateBackend::attention_delta(const AttentionDeltaArgs& args, Stream& stream) {
  defer(&Backend::attention_delta, args, stream);
}
void LateBackend::attention_backward(const AttentionBackwardArgs& args, Stream& stream) {
  defer(&Backend::attention_backward, args, stream);
}
void LateBackend::swiglu_matmul(const SwigluMatmulArgs& args, Stream& stream) {
  defer(&Backend::swiglu_matmul, args, stream);
}
void LateBackend::swiglu_matmul_backward(const SwigluMatmulBackwardArgs& args, Stream& stream) {
  defer(&Backend::swiglu_matmul_backward, args, stream);
}
void LateBackend::embedding(const EmbeddingArgs& args, Stream& stream) {
  defer(&Backend::embedding, args, stream);
}
void LateBackend::embedding_backward(const EmbeddingBackwardArgs& args, Stream& stream) {
  defer(&Backend::embedding_backward, args, stream);
}
void LateBackend::cross_entropy_stats(const CrossEntropyStatsArgs& args, Stream& stream) {
  defer(&Backend::cross_entropy_stats, args, stream);
}
void LateBackend::cross_entropy_rescale(const CrossEntropyRescaleArgs& args, Stream& stream) {
  defer(&Backend::cross_entropy_rescale, args, stream);
}
void LateBackend::cross_entropy_finish(const CrossEntropyFinishArgs& args, Stream& stream) {
  defer(&Backend::cross_entropy_finish, args, stream);
}
void LateBackend::sum_of_squares(const SumOfSquaresArgs& args, Stream& stream) {
  defer(&Backend::sum_of_squares, args, stream);
}
void LateBackend::clip_scale(const ClipScaleArgs& args, Stream& stream) {
  defer(&Backend::clip_scale, args, stream);
}
void LateBackend::adamw(const AdamWArgs& args, Stream& stream) {
  defer(&Backend::adamw, args, stream);
}
void LateBackend::adafactor(const AdafactorArgs& args, Stream& stream) {
  defer(&Backend::adafactor, args, stream);
}
void LateBackend::random_normal(const RandomNormalArgs& args, Stream& stream) {
  defer(&Backend::random_normal, args, stream);
}

namespace {

class LateGroup final : public ForwardingCommunicator {
 public:
  LateGroup(std::unique_ptr<Communicator> group, int free_processors)
      : ForwardingCommunicator(std::move(group)), free_processors_(free_processors) {}

  int free_processors() const override { return free_processors_; }

  std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                      const MessageRoute& route) override {
    return make_late_group(group().split(std::move(name), color, key, route), free_processors_);
  }

  void all_reduce(Tensor inout, ReduceOp op, Stream& stream) override {
    defer(stream, [=, this] { group().all_reduce(inout, op, now_); });
  }
  void all_gather(Tensor shard, Tensor whole, Stream& stream) override {
    defer(stream, [=, this] { group().all_gather(shard, whole, now_); });
  }
  void reduce_scatter(Tensor whole, Tensor shard, ReduceOp op, Stream& stream) override {
    defer(stream, [=, this] { group().reduce_scatter(whole, shard, op, now_); });
  }
  void all_to_all(Tensor sent, Tensor received, Stream& stream) override {
    defer(stream, [=, this] { group().all_to_all(sent, received, now_); });
  }
  void broadcast(Tensor inout, int root, Stream& stream) override {
    defer(stream, [=, this] { group().broadcast(inout, root, now_); });
  }
  void exchange(std::span<const Transfer> transfers, Stream& stream) override {
    const std::vector<Transfer> copy(transfers.begin(), transfers.end());
    defer(stream, [=, this] { group().exchange(copy, now_); });
  }

 private:
  template <typename Operation>
  void defer(Stream& stream, Operation operation) {
    CpuStream::of(stream).defer([=, this] {
      operation();
      now_.complete();
    });
  }

  int free_processors_;
  CpuStream now_;
};

}  // namespace

std::unique_ptr<Communicator> make_late_group(std::unique_ptr<Communicator> group,
                                              int free_processors) {
  return std::make_unique<LateGroup>(std::move(group), free_processors);
}

}  // namespace ringtrain
