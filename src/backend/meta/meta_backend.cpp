#include <memory>
#include <string>

#include "ringtrain/ops/backend.h"
#include "ringtrain/ops/check.h"

namespace ringtrain {
namespace {

/// Checks shapes, so that a step that cannot run fails where it is laid out; touches no memory.
class MetaBackend final : public Backend {
 public:
  explicit MetaBackend(std::size_t workspace_bytes) : workspace_bytes_(workspace_bytes) {}

  std::size_t workspace_bytes() const override { return workspace_bytes_; }
  void bind_workspace(Tensor) override {}
  std::string description() const override { return "meta: shapes only"; }

  void fill(Tensor out, double, Stream&) override { check_fill(out); }
  void cast(Tensor in, Tensor out, Stream&) override { check_cast(in, out); }
  void add(Tensor in, Tensor inout, Stream&) override { check_add(in, inout); }
  void transpose(Tensor in, Tensor out, Stream&) override { check_transpose(in, out); }
  void matmul(const MatmulArgs& args, Stream&) override { check_args(args); }
  void rms_norm(const RmsNormArgs& args, Stream&) override { check_args(args); }
  void rms_norm_backward(const RmsNormBackwardArgs& args, Stream&) override { check_args(args); }
  void rope_split(const RopeSplitArgs& args, Stream&) override { check_args(args); }
  void rope_merge(const RopeMergeArgs& args, Stream&) override { check_args(args); }
  void attention_forward(const AttentionForwardArgs& args, Stream&) override { check_args(args); }
  void attention_delta(const AttentionDeltaArgs& args, Stream&) override { check_args(args); }
  void attention_backward(const AttentionBackwardArgs& args, Stream&) override { check_args(args); }
  bool attention_overlaps(const Tensor&, const AttentionMask&) const override { return true; }
  void swiglu_matmul(const SwigluMatmulArgs& args, Stream&) override { check_args(args); }
  void swiglu_matmul_backward(const SwigluMatmulBackwardArgs& args, Stream&) override {
    check_args(args);
  }
  void embedding(const EmbeddingArgs& args, Stream&) override { check_args(args); }
  void embedding_backward(const EmbeddingBackwardArgs& args, Stream&) override { check_args(args); }
  void cross_entropy_stats(const CrossEntropyStatsArgs& args, Stream&) override {
    check_args(args);
  }
  void cross_entropy_rescale(const CrossEntropyRescaleArgs& args, Stream&) override {
    check_args(args);
  }
  void cross_entropy_finish(const CrossEntropyFinishArgs& args, Stream&) override {
    check_args(args);
  }
  void sum_of_squares(const SumOfSquaresArgs& args, Stream&) override { check_args(args); }
  void clip_scale(const ClipScaleArgs& args, Stream&) override { check_args(args); }
  void adamw(const AdamWArgs& args, Stream&) override { check_args(args); }
  void adafactor(const AdafactorArgs& args, Stream&) override { check_args(args); }
  void random_normal(const RandomNormalArgs& args, Stream&) override { check_args(args); }

 private:
  std::size_t workspace_bytes_;
};

}  // namespace

std::unique_ptr<Backend> make_meta_backend(std::size_t workspace_bytes) {
  return std::make_unique<MetaBackend>(workspace_bytes);
}

}  // namespace ringtrain
