#pragma once

#include <memory>

#include "ringtrain/comm/communicator.h"
#include "ringtrain/core/cpu_stream.h"
#include "ringtrain/ops/backend.h"

namespace ringtrain {

/// The operations of the CPU, as late as streams and events allow: where a stream does not wait for
/// one that it needs, results are wrong every time.
class LateBackend : public Backend {
 public:
  LateBackend() : cpu_(make_cpu_backend()) {}

  std::size_t workspace_bytes() const override { return cpu_->workspace_bytes(); }
  void bind_workspace(Tensor workspace) override { cpu_->bind_workspace(workspace); }
  std::string description() const override { return "late " + cpu_->description(); }
  bool attention_overlaps(const Tensor& query, const AttentionMask& mask) const override {
    return cpu_->attention_overlaps(query, mask);
  }

  void fill(Tensor out, double value, Stream& stream) override;
  void cast(Tensor in, Tensor out, Stream& stream) override;
  void add(Tensor in, Tensor inout, Stream& stream) override;
  void transpose(Tensor in, Tensor out, Stream& stream) override;
  void matmul(const MatmulArgs& args, Stream& stream) override;
  void rms_norm(const RmsNormArgs& args, Stream& stream) override;
  void rms_norm_backward(const RmsNormBackwardArgs& args, Stream& stream) override;
  void rope_split(const RopeSplitArgs& args, Stream& stream) override;
  void rope_merge(const RopeMergeArgs& args, Stream& stream) override;
  void attention_forward(const AttentionForwardArgs& args, Stream& stream) override;
  void attention_delta(const AttentionDeltaArgs& args, Stream& stream) override;
  void attention_backward(const AttentionBackwardArgs& args, Stream& stream) override;
  void swiglu_matmul(const SwigluMatmulArgs& args, Stream& stream) override;
  void swiglu_matmul_backward(const SwigluMatmulBackwardArgs& args, Stream& stream) override;
  void embedding(const EmbeddingArgs& args, Stream& stream) override;
  void embedding_backward(const EmbeddingBackwardArgs& args, Stream& stream) override;
  void cross_entropy_stats(const CrossEntropyStatsArgs& args, Stream& stream) override;
  void cross_entropy_rescale(const CrossEntropyRescaleArgs& args, Stream& stream) override;
  void cross_entropy_finish(const CrossEntropyFinishArgs& args, Stream& stream) override;
  void sum_of_squares(const SumOfSquaresArgs& args, Stream& stream) override;
  void clip_scale(const ClipScaleArgs& args, Stream& stream) override;
  void adamw(const AdamWArgs& args, Stream& stream) override;
  void adafactor(const AdafactorArgs& args, Stream& stream) override;
  void random_normal(const RandomNormalArgs& args, Stream& stream) override;

 private:
  template <typename Args>
  void defer(void (Backend::*operation)(const Args&, Stream&), const Args& args, Stream& stream);

  std::unique_ptr<Backend> cpu_;
  CpuStream now_;  // what is late, when it is due
};

/// `group`, a group of the CPU, whose messages are sent and received as late as streams and events
/// allow; beside them `free_processors` are to be left free.
std::unique_ptr<Communicator> make_late_group(std::unique_ptr<Communicator> group,
                                              int free_processors = 0);

}  // namespace ringtrain
