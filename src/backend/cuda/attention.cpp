#include "attention.h"

#include <fmt/format.h>

#include <cstdint>
#include <optional>

#include "narrow.h"
#include "ringtrain/core/environment.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention.h"
#include "ringtrain/kernels/attention_backward_sm90.h"
#include "ringtrain/kernels/attention_forward_sm90.h"
#include "ringtrain/kernels/attention_sm90.h"
#include "ringtrain/kernels/elementwise.h"
#include "ringtrain/ops/skipped_keys.h"

namespace ringtrain {
namespace {

constexpr std::size_t kAlignment = 256;

template <typename T>
T* optional_data(const Tensor& tensor) {
  return tensor ? tensor.data<T>() : nullptr;
}

kernels::AttentionShape shape_of(const Tensor& query, const Tensor& key, const AttentionMask& mask,
                                 float softmax_scale) {
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

/// What the rows of a step see beside documents, where it has a closed form.
std::optional<AttentionSegment> visible_segment(const Tensor& query, const Tensor& key,
                                                const AttentionMask& mask) {
  if (mask.causal) return mask.segment;
  return AttentionSegment{0, query.size(1), 0, key.size(1), key.size(1)};
}

/// Of the workspace, what first_visible_keys takes from its beginning.
std::size_t document_bytes(const AttentionMask& mask) {
  if (!mask.lowest_visible) return 0;
  return (mask.lowest_visible.bytes() + kAlignment - 1) / kAlignment * kAlignment;
}

/// [B, Tq]: the first key of `visible` that each row may see; null without documents.
const int* first_visible_keys(const AttentionMask& mask, const AttentionSegment& visible,
                              const CudaAttention::Workspace& workspace, cudaStream_t stream) {
  if (!mask.lowest_visible) return nullptr;
  int* out = reinterpret_cast<int*>(workspace.data);
  kernels::launch_first_visible_key(
      {.lowest_visible = mask.lowest_visible.data<std::int32_t>(),
       .key_positions = mask.key_positions.data<std::int32_t>() + visible.k0,
       .out = out,
       .rows = mask.lowest_visible.num_elements(),
       .keys = narrow(visible.kn)},
      stream);
  return out;
}

void clear(const Tensor& gradient, cudaStream_t stream) {
  kernels::launch_fill({gradient.raw(), gradient.num_elements(), gradient.dtype(), 0}, stream);
}

kernels::KeyGradient key_gradient_of(const AttentionBackwardArgs& args) {
  if (!args.overwrite_key_value) return kernels::KeyGradient::kAdd;
  return args.dkey.dtype() == DType::kFloat32 ? kernels::KeyGradient::kWrite
                                              : kernels::KeyGradient::kRoundAndWrite;
}

}  // namespace

CudaAttention::CudaAttention(bool deterministic) : deterministic_(deterministic) {
  const AttentionKernels wanted = environment_attention_kernels();
  const bool is_hopper = kernels::is_sm90_device();
  if (wanted == AttentionKernels::kSm90 && !is_hopper) {
    throw InvalidArgument("RINGTRAIN_ATTENTION=sm90 needs a GPU of compute capability 9.0");
  }
  has_sm90_ = is_hopper && wanted != AttentionKernels::kPortable;
}

std::string CudaAttention::description() const {
  return fmt::format("{}portable mma.sync (bf16), CUDA cores (fp32)",
                     has_sm90_ ? "sm90 wgmma (bf16, head_dim up to 128), " : "");
}

bool CudaAttention::uses_sm90(const Tensor& query, const AttentionMask& mask,
                              const Workspace& workspace) const {
  return has_sm90_ && query.dtype() == DType::kBFloat16 &&
         kernels::attention_sm90_supports(query.size(3)) && document_bytes(mask) <= workspace.bytes;
}

void CudaAttention::forward(const AttentionForwardArgs& args, const Workspace& workspace,
                            cudaStream_t stream) const {
  const std::optional<AttentionSegment> visible = visible_segment(args.query, args.key, args.mask);
  if (visible && uses_sm90(args.query, args.mask, workspace)) {
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
         .first_head = narrow(args.first_head),
         .num_heads = narrow(args.num_heads),
         .lowest = first_visible_keys(args.mask, *visible, workspace, stream),
         .first = args.first,
         .last = args.last,
         .free_processors = args.free_processors},
        stream);
    return;
  }
  if (args.num_heads > 0) throw InvalidArgument("attention_forward: this GPU takes all heads");
  const kernels::AttentionForwardArgs kernel_args{
      .shape = shape_of(args.query, args.key, args.mask, args.softmax_scale),
      .query = args.query.raw(),
      .key = args.key.raw(),
      .value = args.value.raw(),
      .partial = optional_data<float>(args.partial),
      .lse = args.lse.data<float>(),
      .out = args.out.raw(),
      .first = args.first,
      .last = args.last};
  if (args.query.dtype() == DType::kBFloat16) {
    kernels::launch_attention_forward_bf16(kernel_args, stream);
  } else {
    args.query.data<float>();
    kernels::launch_attention_forward_fp32(kernel_args, stream);
  }
}

/// False, and nothing is launched, where the Hopper kernel cannot take the call.
bool CudaAttention::backward_sm90(const AttentionBackwardArgs& args, const Workspace& workspace,
                                  cudaStream_t stream) const {
  const std::optional<AttentionSegment> visible = visible_segment(args.query, args.key, args.mask);
  if (!visible || !uses_sm90(args.query, args.mask, workspace)) return false;
  kernels::AttentionBackwardSm90Args step{.query = args.query.raw(),
                                          .key = args.key.raw(),
                                          .value = args.value.raw(),
                                          .dout = args.dout.raw(),
                                          .lse = args.lse.data<float>(),
                                          .delta = args.delta.data<float>(),
                                          .dquery = args.dquery.data<float>(),
                                          .dkey = args.dkey.raw(),
                                          .dvalue = args.dvalue.raw(),
                                          .batch = args.query.size(0),
                                          .query_tokens = narrow(args.query.size(1)),
                                          .key_tokens = narrow(args.key.size(1)),
                                          .query_heads = narrow(args.query.size(2)),
                                          .kv_heads = narrow(args.key.size(2)),
                                          .head_dim = narrow(args.query.size(3)),
                                          .softmax_scale = args.softmax_scale,
                                          .visible = *visible,
                                          .skipped_key = narrow(args.skipped.begin),
                                          .skipped_keys = narrow(args.skipped.tokens),
                                          .key_gradient = key_gradient_of(args)};
  if (deterministic_) {
    const std::size_t taken = document_bytes(args.mask);
    if (taken + kernels::attention_backward_sm90_scratch_bytes(step) > workspace.bytes) {
      return false;
    }
    step.scratch = workspace.data + taken;
  }
  if (!kernels::attention_backward_sm90_skips(step)) return false;
  step.lowest = first_visible_keys(args.mask, *visible, workspace, stream);
  kernels::launch_attention_backward_sm90(step, stream);
  return true;
}

// On Hopper dquery is added to by reductions in L2; a fixed order and documents take the workspace.
bool CudaAttention::overlaps(const Tensor& query, const AttentionMask& mask) const {
  return !deterministic_ && !mask.lowest_visible && (!mask.causal || mask.segment) &&
         uses_sm90(query, mask, {nullptr, 0});
}

void CudaAttention::backward(const AttentionBackwardArgs& args, const Workspace& workspace,
                             cudaStream_t stream) const {
  if (backward_sm90(args, workspace, stream)) return;
  if (args.skipped.tokens > 0) {
    for (const auto& part : around_skipped_keys(args)) backward(part, workspace, stream);
    return;
  }
  if (args.overwrite_key_value) {
    clear(args.dkey, stream);
    clear(args.dvalue, stream);
  }
  const kernels::AttentionBackwardArgs kernel_args{
      .shape = shape_of(args.query, args.key, args.mask, args.softmax_scale),
      .query = args.query.raw(),
      .key = args.key.raw(),
      .value = args.value.raw(),
      .dout = args.dout.raw(),
      .lse = args.lse.data<float>(),
      .delta = args.delta.data<float>(),
      .dquery = args.dquery.data<float>(),
      .dkey = args.dkey.raw(),
      .dvalue = args.dvalue.raw(),
      .rounds_key_value = args.dkey.dtype() == DType::kBFloat16};
  if (args.query.dtype() == DType::kBFloat16) {
    kernels::launch_attention_backward_bf16(kernel_args, stream);
  } else {
    kernels::launch_attention_backward_fp32(kernel_args, stream);
  }
}

}  // namespace ringtrain
