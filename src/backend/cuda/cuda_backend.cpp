// Maps every operation of ops/backend.h to the launchers of include/ringtrain/kernels.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "matmul.h"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/environment.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention.h"
#include "ringtrain/kernels/attention_backward_sm90.h"
#include "ringtrain/kernels/attention_forward_sm90.h"
#include "ringtrain/kernels/attention_sm90.h"
#include "ringtrain/kernels/cross_entropy.h"
#include "ringtrain/kernels/elementwise.h"
#include "ringtrain/kernels/embedding.h"
#include "ringtrain/kernels/gradient_norm.h"
#include "ringtrain/kernels/optimizer.h"
#include "ringtrain/kernels/random_normal.h"
#include "ringtrain/kernels/rms_norm.h"
#include "ringtrain/kernels/rope.h"
#include "ringtrain/kernels/swiglu.h"
#include "ringtrain/kernels/transpose.h"
#include "ringtrain/ops/backend.h"
#include "ringtrain/ops/check.h"

namespace ringtrain {
namespace {

const std::size_t kWorkspaceBytes = cuda_workspace_bytes();

cudaStream_t native(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.native());
}

template <typename T>
T* optional_data(const Tensor& tensor) {
  return tensor ? tensor.data<T>() : nullptr;
}

int narrow(std::int64_t size) {
  if (size > INT32_MAX) throw InvalidArgument(fmt::format("a size of {} is too large", size));
  return static_cast<int>(size);
}

kernels::AttentionShape attention_shape(const Tensor& query, const Tensor& key,
                                        const AttentionMask& mask, float softmax_scale) {
  return {.query_positions = mask.query_positions.data<std::int32_t>(),
          .key_positions = mask.key_positions.data<std::int32_t>(),
          .lowest_visible = optional_data<std::int32_t>(mask.lowest_visible),
          .batch = query.size(0),
          .query_tokens = narrow(query.size(1)),
          .key_tokens = narrow(key.size(1)),
          .query_heads = narrow(query.size(2)),
          .kv_heads = narrow(key.size(2)),
          .head_dim = narrow(query.size(3)),
          .softmax_scale = softmax_scale,
          .causal = mask.causal};
}

// What the rows of a step see beside documents, where it has a closed form.
std::optional<AttentionSegment> visible_segment(const Tensor& query, const Tensor& key,
                                                const AttentionMask& mask) {
  if (mask.causal) return mask.segment;
  return AttentionSegment{0, query.size(1), 0, key.size(1), key.size(1)};
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(bool deterministic) : deterministic_(deterministic) {
    const AttentionKernels wanted = environment_attention_kernels();
    const bool is_hopper = kernels::is_sm90_device();
    if (wanted == AttentionKernels::kSm90 && !is_hopper) {
      throw InvalidArgument("RINGTRAIN_ATTENTION=sm90 needs a GPU of compute capability 9.0");
    }
    uses_sm90_attention_ = is_hopper && wanted != AttentionKernels::kPortable;
  }
  std::size_t workspace_bytes() const override { return kWorkspaceBytes; }
  void bind_workspace(Tensor workspace) override {
    if (workspace.bytes() < kWorkspaceBytes) {
      throw InvalidArgument(fmt::format("the CUDA back end wants {} bytes of workspace, not {}",
                                        kWorkspaceBytes, workspace.bytes()));
    }
    workspace_ = workspace.raw();
  }
  std::string description() const override {
    return fmt::format(
        "attention: {}portable mma.sync (bf16), CUDA cores (fp32); matmul: cuBLASLt {}",
        uses_sm90_attention_ ? "sm90 wgmma (bf16, head_dim up to 128), " : "", CublasLt::version());
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
                                .dkey_value = args.dkey_value.data<float>(),
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
    const std::optional<AttentionSegment> visible =
        visible_segment(args.query, args.key, args.mask);
    if (visible && uses_sm90_attention(args.query, args.mask)) {
      kernels::launch_attention_forward_sm90(
          {.query = args.query.raw(),
           .key = args.key.raw(),
           .value = args.value.raw(),
           .out = args.out.raw(),
           .partial = optional_data<float>(args.partial),
           .lse = args.lse.data<float>(),
           .batch = args.query.size(0),
           .query_tokens = narrow(args.query.size(1)),
           .key_tokens = narrow(args.key.size(1)),
           .query_heads = narrow(args.query.size(2)),
           .kv_heads = narrow(args.key.size(2)),
           .head_dim = narrow(args.query.size(3)),
           .softmax_scale = args.softmax_scale,
           .visible = *visible,
           .lowest = first_visible_keys(args.mask, *visible, native(stream)),
           .first = args.first,
           .last = args.last},
          native(stream));
      return;
    }
    const kernels::AttentionForwardArgs kernel_args{
        .shape = attention_shape(args.query, args.key, args.mask, args.softmax_scale),
        .query = args.query.raw(),
        .key = args.key.raw(),
        .value = args.value.raw(),
        .partial = optional_data<float>(args.partial),
        .lse = args.lse.data<float>(),
        .out = args.out.raw(),
        .first = args.first,
        .last = args.last};
    if (args.query.dtype() == DType::kBFloat16) {
      kernels::launch_attention_forward_bf16(kernel_args, native(stream));
    } else {
      args.query.data<float>();
      kernels::launch_attention_forward_fp32(kernel_args, native(stream));
    }
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
    const std::optional<AttentionSegment> visible =
        visible_segment(args.query, args.key, args.mask);
    if (visible && uses_sm90_attention(args.query, args.mask)) {
      kernels::AttentionBackwardSm90Args sm90_args{.query = args.query.raw(),
                                                   .key = args.key.raw(),
                                                   .value = args.value.raw(),
                                                   .dout = args.dout.raw(),
                                                   .lse = args.lse.data<float>(),
                                                   .delta = args.delta.data<float>(),
                                                   .dquery = args.dquery.data<float>(),
                                                   .dkey = args.dkey.data<float>(),
                                                   .dvalue = args.dvalue.data<float>(),
                                                   .batch = args.query.size(0),
                                                   .query_tokens = narrow(args.query.size(1)),
                                                   .key_tokens = narrow(args.key.size(1)),
                                                   .query_heads = narrow(args.query.size(2)),
                                                   .kv_heads = narrow(args.key.size(2)),
                                                   .head_dim = narrow(args.query.size(3)),
                                                   .softmax_scale = args.softmax_scale,
                                                   .visible = *visible,
                                                   .lowest = nullptr,
                                                   .scratch = nullptr,
                                                   .overwrite_key_value = args.overwrite_key_value};
      const std::size_t scratch_bytes = kernels::attention_backward_sm90_scratch_bytes(sm90_args);
      if (!deterministic_ || document_bytes(args.mask) + scratch_bytes <= kWorkspaceBytes) {
        sm90_args.lowest = first_visible_keys(args.mask, *visible, native(stream));
        if (deterministic_) {
          sm90_args.scratch = static_cast<char*>(workspace()) + document_bytes(args.mask);
        }
        kernels::launch_attention_backward_sm90(sm90_args, native(stream));
        return;
      }
    }
    if (args.overwrite_key_value) {
      fill(args.dkey, 0, stream);
      fill(args.dvalue, 0, stream);
    }
    const kernels::AttentionBackwardArgs kernel_args{
        .shape = attention_shape(args.query, args.key, args.mask, args.softmax_scale),
        .query = args.query.raw(),
        .key = args.key.raw(),
        .value = args.value.raw(),
        .dout = args.dout.raw(),
        .lse = args.lse.data<float>(),
        .delta = args.delta.data<float>(),
        .dquery = args.dquery.data<float>(),
        .dkey = args.dkey.data<float>(),
        .dvalue = args.dvalue.data<float>()};
    if (args.query.dtype() == DType::kBFloat16) {
      kernels::launch_attention_backward_bf16(kernel_args, native(stream));
    } else {
      kernels::launch_attention_backward_fp32(kernel_args, native(stream));
    }
  }

  void swiglu(const SwigluArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_swiglu(
        {args.gate_up.raw(), args.out.raw(), args.out.size(0), args.out.size(1), args.out.dtype()},
        native(stream));
  }

  void swiglu_backward(const SwigluBackwardArgs& args, Stream& stream) override {
    check_args(args);
    kernels::launch_swiglu_backward({.gate_up = args.gate_up.raw(),
                                     .dout = args.dout.raw(),
                                     .dgate_up = args.dgate_up.raw(),
                                     .rows = args.dout.size(0),
                                     .width = args.dout.size(1),
                                     .compute = args.dout.dtype()},
                                    native(stream));
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
    const std::int64_t ranges = args.ranges.size(0);
    const auto doubles = static_cast<std::int64_t>(kWorkspaceBytes / sizeof(double));
    if (ranges > doubles) {
      throw InvalidArgument(fmt::format("sum_of_squares: {} ranges are too many", ranges));
    }
    constexpr std::int64_t kMaxSlices = 128;
    kernels::launch_sum_of_squares(
        {.x = args.x.data<float>(),
         .ranges = args.ranges.data<std::int64_t>(),
         .sums = args.sums.data<double>(),
         .partials = static_cast<double*>(workspace()),
         .num_ranges = ranges,
         .num_tensors = args.sums.num_elements(),
         .slices = narrow(std::min(kMaxSlices, doubles / std::max<std::int64_t>(ranges, 1)))},
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
                           .elements = args.param.num_elements(),
                           .m_dtype = args.m.dtype(),
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

  bool uses_sm90_attention(const Tensor& query, const AttentionMask& mask) const {
    return uses_sm90_attention_ && query.dtype() == DType::kBFloat16 &&
           kernels::attention_sm90_supports(query.size(3)) &&
           document_bytes(mask) <= kWorkspaceBytes;
  }

  /// Of the workspace, what first_visible_keys takes from its beginning.
  static std::size_t document_bytes(const AttentionMask& mask) {
    if (!mask.lowest_visible) return 0;
    return (mask.lowest_visible.bytes() + 255) / 256 * 256;
  }

  /// [B, Tq]: the first key of `visible` that each row may see; null without documents.
  const int* first_visible_keys(const AttentionMask& mask, const AttentionSegment& visible,
                                cudaStream_t stream) const {
    if (!mask.lowest_visible) return nullptr;
    int* out = static_cast<int*>(workspace());
    kernels::launch_first_visible_key(
        {.lowest_visible = mask.lowest_visible.data<std::int32_t>(),
         .key_positions = mask.key_positions.data<std::int32_t>() + visible.k0,
         .out = out,
         .rows = mask.lowest_visible.num_elements(),
         .keys = narrow(visible.kn)},
        stream);
    return out;
  }

  CublasLt matmul_;
  void* workspace_ = nullptr;
  bool uses_sm90_attention_ = false;
  bool deterministic_;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(Device& device, bool deterministic) {
  if (device.type() != DeviceType::kCuda) {
    throw InvalidArgument("the CUDA back end needs a CUDA device, not " + device.name());
  }
  return std::make_unique<CudaBackend>(deterministic);
}

}  // namespace ringtrain
