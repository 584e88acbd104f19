// Maps every operation of ops/backend.h to the launchers of include/ringtrain/kernels.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "attention.h"
#include "cuda_matmul.h"
#include "narrow.h"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention.h"
#include "ringtrain/kernels/cross_entropy.h"
#include "ringtrain/kernels/elementwise.h"
#include "ringtrain/kernels/embedding.h"
#include "ringtrain/kernels/gradient_norm.h"
#include "ringtrain/kernels/optimizer.h"
#include "ringtrain/kernels/random_normal.h"
#include "ringtrain/kernels/rms_norm.h"
#include "ringtrain/kernels/rope.h"
#include "ringtrain/kernels/transpose.h"
#include "ringtrain/ops/backend.h"
#include "ringtrain/ops/check.h"

namespace ringtrain {
namespace {

const std::size_t kWorkspaceBytes = cuda_workspace_bytes();

cudaStream_t native(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.native());
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(bool deterministic) : attention_(deterministic) {}
  std::size_t workspace_bytes() const override { return kWorkspaceBytes; }
  void bind_workspace(Tensor workspace) override {
    if (workspace.bytes() < kWorkspaceBytes) {
      throw InvalidArgument(fmt::format("the CUDA back end wants {} bytes of workspace, not {}",
                                        kWorkspaceBytes, workspace.bytes()));
    }
    workspace_ = workspace.raw();
  }
  std::string description() const override {
    return fmt::format("attention: {}; matmul: {}", attention_.description(),
                       matmul_.description());
  }

  void fill(Tensor out, double value, Stream& stream) override {
    check_fill(out);
    kernels::launch_fill({out.raw(), out.num_elements(), out.dtype(), value}, native(stream));
  }

  void cast(Tensor in, Tensor out, Stream& stream) override {
    check_cast(in, out);
    if (in.dtype() == out.dtype()) {
      if (in.bytes() == 0) return;
      RT_CUDA_CHECK(cudaMemcpyAsync(out.raw(), in.raw(), in.bytes(), cudaMemcpyDeviceToDevice,
                                    native(stream)));
      return;
    }
    kernels::launch_cast({in.raw(), out.raw(), in.num_elements(), in.dtype(), out.dtype()},
                         native(stream));
  }

  void add(Tensor in, Tensor inout, Stream& stream) override {
    check_add(in, inout);
    kernels::launch_add({in.raw(), inout.raw(), in.num_elements(), in.dtype(), inout.dtype()},
                        native(stream));
  }

  void transpose(Tensor in, Tensor out, Stream& stream) override {
    check_transpose(in, out);
    kernels::launch_transpose(
        {.in = in.raw(),
         .out = out.raw(),
         .outer = in.size(0),
         .inner = in.size(1),
         .row_bytes = in.size(2) * static_cast<std::int64_t>(size_of(in.dtype()))},
        native(stream));
  }

  void matmul(const MatmulArgs& args, Stream& stream) override {
    check_args(args);
    matmul_.matmul(args, {workspace(), kWorkspaceBytes}, native(stream));
  }

  void rms_norm(const RmsNormArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_rms_norm({.x = args.x.raw(),
                              .weight = args.weight.raw(),
                              .out = args.out.raw(),
                              .rstd = args.rstd.data<float>(),
                              .rows = args.x.size(0),
                              .width = args.x.size(1),
                              .eps = args.eps,
                              .compute = args.x.dtype()},
                             native(stream));
  }

  void rms_norm_backward(const RmsNormBackwardArgs& args, Stream& stream) override {
    check_args(args);
    const std::int64_t width = args.x.size(1);
    const auto floats = static_cast<std::int64_t>(kWorkspaceBytes / sizeof(float));
    if (width > floats) {
      throw InvalidArgument(
          fmt::format("rms_norm_backward: a hidden size of {} is too large", width));
    }
    kernels::launch_rms_norm_backward({.dout = args.dout.raw(),
                                       .x = args.x.raw(),
                                       .weight = args.weight.raw(),
                                       .rstd = args.rstd.data<float>(),
                                       .dx = args.dx.raw(),
                                       .dweight = args.dweight.data<float>(),
                                       .partials = static_cast<float*>(workspace()),
                                       .partial_rows = floats / std::max<std::int64_t>(width, 1),
                                       .rows = args.x.size(0),
                                       .width = width,
                                       .compute = args.x.dtype()},
                                      native(stream));
  }

  void rope_split(const RopeSplitArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_rope_split({.qkv = args.qkv.raw(),
                                .positions = args.positions.data<std::int32_t>(),
                                .inverse_frequency = args.inverse_frequency.data<float>(),
                                .query = args.query.raw(),
                                .key_value = args.key_value.raw(),
                                .batch = args.query.size(0),
                                .tokens = args.query.size(1),
                                .query_heads = narrow(args.query.size(2)),
                                .kv_heads = narrow(args.key_value.size(3)),
                                .head_dim = narrow(args.query.size(3)),
                                .compute = args.qkv.dtype()},
                               native(stream));
  }

  void rope_merge(const RopeMergeArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_rope_merge({.dquery = args.dquery.data<float>(),
                                .dkey_value = args.dkey_value.raw(),
                                .dkey_value_type = args.dkey_value.dtype(),
                                .positions = args.positions.data<std::int32_t>(),
                                .inverse_frequency = args.inverse_frequency.data<float>(),
                                .dqkv = args.dqkv.raw(),
                                .batch = args.dquery.size(0),
                                .tokens = args.dquery.size(1),
                                .query_heads = narrow(args.dquery.size(2)),
                                .kv_heads = narrow(args.dkey_value.size(3)),
                                .head_dim = narrow(args.dquery.size(3)),
                                .compute = args.dqkv.dtype()},
                               native(stream));
  }

  void attention_forward(const AttentionForwardArgs& args, Stream& stream) override {
    check_args(args);
    attention_.forward(args, {static_cast<char*>(workspace()), kWorkspaceBytes}, native(stream));
  }

  void attention_delta(const AttentionDeltaArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_attention_delta({.out = args.out.raw(),
                                     .dout = args.dout.raw(),
                                     .delta = args.delta.data<float>(),
                                     .batch = args.out.size(0),
                                     .tokens = args.out.size(1),
                                     .heads = narrow(args.out.size(2)),
                                     .head_dim = narrow(args.out.size(3)),
                                     .compute = args.out.dtype()},
                                    native(stream));
  }

  void attention_backward(const AttentionBackwardArgs& args, Stream& stream) override {
    check_args(args);
    attention_.backward(args, {static_cast<char*>(workspace()), kWorkspaceBytes}, native(stream));
  }
  bool attention_overlaps(const Tensor& query, const AttentionMask& mask) const override {
    return attention_.overlaps(query, mask);
  }

  void swiglu_matmul(const SwigluMatmulArgs& args, Stream& stream) override {
    check_args(args);
    matmul_.swiglu(args, {workspace(), kWorkspaceBytes}, native(stream));
  }

  void swiglu_matmul_backward(const SwigluMatmulBackwardArgs& args, Stream& stream) override {
    check_args(args);
    matmul_.swiglu_backward(args, {workspace(), kWorkspaceBytes}, native(stream));
  }

  void embedding(const EmbeddingArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_embedding({.tokens = args.tokens.data<std::int32_t>(),
                               .table = args.table.raw(),
                               .out = args.out.raw(),
                               .rows = args.out.size(0),
                               .entries = args.table.size(0),
                               .width = args.table.size(1),
                               .first_index = args.first_index,
                               .compute = args.table.dtype()},
                              native(stream));
  }

  void embedding_backward(const EmbeddingBackwardArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_embedding_backward({.tokens = args.tokens.data<std::int32_t>(),
                                        .dout = args.dout.raw(),
                                        .dtable = args.dtable.data<float>(),
                                        .scratch = workspace(),
                                        .scratch_bytes = kWorkspaceBytes,
                                        .rows = args.dout.size(0),
                                        .entries = args.dtable.size(0),
                                        .width = args.dtable.size(1),
                                        .first_index = args.first_index,
                                        .compute = args.dout.dtype()},
                                       native(stream));
  }

  void cross_entropy_stats(const CrossEntropyStatsArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_cross_entropy_stats({.logits = args.logits.raw(),
                                         .targets = args.targets.data<std::int32_t>(),
                                         .stats = args.stats.data<float>(),
                                         .rows = args.logits.size(0),
                                         .width = args.logits.size(1),
                                         .num_valid = args.num_valid,
                                         .first_index = args.first_index,
                                         .compute = args.logits.dtype()},
                                        native(stream));
  }

  void cross_entropy_rescale(const CrossEntropyRescaleArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_cross_entropy_rescale(
        {args.stats.data<float>(), args.maximum.data<float>(), args.maximum.num_elements()},
        native(stream));
  }

  void cross_entropy_finish(const CrossEntropyFinishArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_cross_entropy_finish({.logits = args.logits.raw(),
                                          .targets = args.targets.data<std::int32_t>(),
                                          .weights = args.weights.data<float>(),
                                          .stats = args.stats.data<float>(),
                                          .totals = args.totals.data<double>(),
                                          .partials = static_cast<double*>(workspace()),
                                          .rows = args.logits.size(0),
                                          .width = args.logits.size(1),
                                          .num_valid = args.num_valid,
                                          .first_index = args.first_index,
                                          .write_gradient = args.write_gradient,
                                          .compute = args.logits.dtype()},
                                         native(stream));
  }

  void sum_of_squares(const SumOfSquaresArgs& args, Stream& stream) override {
    check_args(args);
    const std::int64_t elements = args.x.num_elements();
    const std::int64_t ranges = args.ranges.size(0);
    const std::int64_t partials = kernels::sum_of_squares_partials(elements, ranges);
    if (partials > static_cast<std::int64_t>(kWorkspaceBytes / sizeof(double))) {
      throw InvalidArgument(
          fmt::format("sum_of_squares: {} elements in {} ranges are too many", elements, ranges));
    }
    kernels::launch_sum_of_squares({.x = args.x.data<float>(),
                                    .ranges = args.ranges.data<std::int64_t>(),
                                    .sums = args.sums.data<double>(),
                                    .partials = static_cast<double*>(workspace()),
                                    .elements = elements,
                                    .num_ranges = ranges,
                                    .num_tensors = args.sums.num_elements()},
                                   native(stream));
  }

  void clip_scale(const ClipScaleArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_clip_scale({args.sums.data<double>(), args.out.data<float>(),
                                args.sums.num_elements(), args.scale, args.max_norm},
                               native(stream));
  }

  void adamw(const AdamWArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_adamw({.param = args.param.data<float>(),
                           .grad = args.grad.data<float>(),
                           .factor = args.factor.data<float>(),
                           .m = args.m.raw(),
                           .v = args.v.data<float>(),
                           .weights = args.weights ? args.weights.raw() : nullptr,
                           .elements = args.param.num_elements(),
                           .m_dtype = args.m.dtype(),
                           .weights_dtype = args.weights ? args.weights.dtype() : DType::kFloat32,
                           .learning_rate = args.learning_rate,
                           .b1 = args.b1,
                           .b2 = args.b2,
                           .eps = args.eps,
                           .weight_decay = args.weight_decay,
                           .step = args.step},
                          native(stream));
  }

  void adafactor(const AdafactorArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_adafactor({.param = args.param.data<float>(),
                               .grad = args.grad.data<float>(),
                               .factor = args.factor.data<float>(),
                               .m = args.m.raw(),
                               .v = args.v.data<float>(),
                               .ranges = args.ranges.data<std::int64_t>(),
                               .param_sums = args.param_sums.data<double>(),
                               .param_counts = args.param_counts.data<double>(),
                               .num_ranges = args.ranges.size(0),
                               .m_dtype = args.m.dtype(),
                               .learning_rate = args.learning_rate,
                               .b1 = args.b1,
                               .decay_rate = args.decay_rate,
                               .weight_decay = args.weight_decay,
                               .step = args.step},
                              native(stream));
  }

  void random_normal(const RandomNormalArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_random_normal({.out = args.out.data<float>(),
                                   .elements = args.out.num_elements(),
                                   .key = args.key,
                                   .first_counter = args.first_counter,
                                   .stddev = args.stddev},
                                  native(stream));
  }

 private:
  void* workspace() const {
    if (workspace_ == nullptr) throw InvalidArgument("the CUDA back end has no workspace bound");
    return workspace_;
  }

  CudaMatmul matmul_;
  CudaAttention attention_;
  void* workspace_ = nullptr;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(Device& device, bool deterministic) {
  if (device.type() != DeviceType::kCuda) {
    throw InvalidArgument("the CUDA back end needs a CUDA device, not " + device.name());
  }
  return std::make_unique<CudaBackend>(deterministic);
}

}  // namespace ringtrain
