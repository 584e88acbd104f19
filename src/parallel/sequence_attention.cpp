#include "ringtrain/parallel/sequence_attention.h"

#include "attention_steps.h"
#include "gathered_attention.h"
#include "ring_attention.h"

namespace ringtrain {
namespace {

/// [B, N, T] beside a query [B, T, N, H].
Shape lse_shape(const Tensor& query) {
  return {query.size(0), query.size(2), query.size(1)};
}

}  // namespace

struct SequenceAttention::Parts {
  Parts(Context& context, const std::vector<SequenceLayout>& layouts,
        const SequenceAttentionOptions& options)
      : steps(context, layouts, options), ring(context, steps, options), gathered(context, steps) {}

  AttentionSteps steps;
  RingAttention ring;
  GatheredAttention gathered;
};

SequenceAttention::SequenceAttention(Context& context, const std::vector<SequenceLayout>& layouts,
                                     const SequenceAttentionOptions& options)
    : context_(context),
      options_(options),
      exchange_(context),
      parts_(std::make_unique<Parts>(context, layouts, options)) {}

SequenceAttention::~SequenceAttention() = default;

void SequenceAttention::use_layout(std::size_t index) {
  parts_->steps.use_layout(index);
}

Tensor SequenceAttention::positions() const {
  const Tensor group = parts_->steps.positions();
  const std::int64_t tokens = group.size(0) / exchange_.size();
  return group.slice(context_.mesh.ulysses->rank() * tokens, tokens);
}

DType SequenceAttention::dkey_value_type(std::int64_t heads, std::int64_t kv_heads) const {
  const bool is_one_step = context_.mesh.ring->size() == 1 && exchange_.size() == 1;
  return is_one_step && heads == kv_heads ? context_.compute_dtype : DType::kFloat32;
}

bool SequenceAttention::rotates() const {
  return options_.transport == KeyValueTransport::kRing || context_.mesh.ring->size() == 1;
}

void SequenceAttention::forward(const Forward& args) {
  if (exchange_.size() == 1) return attend(args);
  const Arena::Scope scope(context_.arena);
  Forward group = args;
  group.query = exchange_.to_heads(args.query);
  group.key_value = exchange_.to_heads(args.key_value);
  group.out = context_.arena.allocate(group.query.shape(), args.out.dtype(), MemoryKind::kRing);
  group.lse = args.lse.reshape(lse_shape(group.query));
  attend(group);
  exchange_.to_tokens(group.out, args.out);
}

void SequenceAttention::backward(const Backward& args) {
  const Arena::Scope scope(context_.arena);
  const Tensor delta =
      context_.arena.allocate(args.lse.shape(), DType::kFloat32, MemoryKind::kWorkspace);
  context_.ops.attention_delta({args.out, args.dout, delta}, context_.compute);
  if (exchange_.size() == 1) return attend_backward(args, delta);
  Backward group = args;
  group.query = exchange_.to_heads(args.query);
  group.key_value = exchange_.to_heads(args.key_value);
  group.lse = args.lse.reshape(lse_shape(group.query));
  group.dout = exchange_.to_heads(args.dout);
  group.dquery = context_.arena.allocate(group.query.shape(), DType::kFloat32, MemoryKind::kRing);
  group.dkey_value =
      context_.arena.allocate(group.key_value.shape(), DType::kFloat32, MemoryKind::kRing);
  attend_backward(group, exchange_.rows_to_heads(delta));
  exchange_.to_tokens(group.dquery, args.dquery);
  exchange_.to_tokens(group.dkey_value, args.dkey_value);
}

void SequenceAttention::attend(const Forward& args) {
  const Arena::Scope scope(context_.arena);
  if (rotates()) {
    parts_->ring.forward(args);
  } else {
    parts_->gathered.forward(args);
  }
}

void SequenceAttention::attend_backward(const Backward& args, Tensor delta) {
  const Arena::Scope scope(context_.arena);
  context_.ops.fill(args.dquery, 0, context_.compute);
  if (rotates()) {
    parts_->ring.backward(args, delta);
  } else {
    parts_->gathered.backward(args, delta);
  }
}

}  // namespace ringtrain
