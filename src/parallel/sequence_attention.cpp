#include "ringtrain/parallel/sequence_attention.h"

#include <array>
#include <cmath>
#include <utility>

namespace ringtrain {
namespace {

float softmax_scale(const Tensor& query) {
  return 1.0f / std::sqrt(static_cast<float>(query.size(-1)));
}

/// [B, N, T] beside a query [B, T, N, H].
Shape lse_shape(const Tensor& query) {
  return {query.size(0), query.size(2), query.size(1)};
}

}  // namespace

// Steps fold into `partial` until the last visible one writes the output.
struct SequenceAttention::Fold {
  Tensor partial;  // [B, T, N, H] fp32, absent where one step is all
  int done = 0;    // visible steps so far
};

SequenceAttention::SequenceAttention(Context& context, const std::vector<SequenceLayout>& layouts,
                                     const SequenceAttentionOptions& options)
    : context_(context),
      options_(options),
      exchange_(context),
      computed_(context.device.make_event()),
      arrived_(context.device.make_event()),
      returned_(context.device.make_event()) {
  for (const SequenceLayout& layout : layouts) {
    Cut cut;
    cut.positions = context.arena.allocate({num_ranks(), layout.group_length()}, DType::kInt32,
                                           MemoryKind::kBatch);
    for (int r = 0; r < num_ranks(); ++r) {
      if (context.device.type() != DeviceType::kMeta) {
        const std::vector<std::int32_t> positions = layout.group_positions(r);
        const Tensor row = cut.positions[r];
        context.device.copy_to_device(row.raw(), positions.data(), row.bytes(), context.compute);
        context.compute.synchronise();  // `positions` dies here
      }
      cut.segments.push_back(layout.causal_segments(rank(), r));
      cut.num_visible += cut.segments.back().empty() ? 0 : 1;
    }
    cuts_.push_back(std::move(cut));
  }
}

Tensor SequenceAttention::positions() const {
  const Tensor group = cut().positions[rank()];
  const std::int64_t tokens = group.size(0) / exchange_.size();
  return group.slice(context_.mesh.ulysses->rank() * tokens, tokens);
}

DType SequenceAttention::dkey_value_type(std::int64_t heads, std::int64_t kv_heads) const {
  const bool is_one_step = num_ranks() == 1 && exchange_.size() == 1;
  return is_one_step && heads == kv_heads ? context_.compute_dtype : DType::kFloat32;
}

AttentionMask SequenceAttention::mask(Tensor lowest_visible, int key_rank) const {
  const auto& segments = cut().segments[static_cast<std::size_t>(key_rank)];
  AttentionMask mask{.query_positions = cut().positions[rank()],
                     .key_positions = cut().positions[key_rank],
                     .lowest_visible = lowest_visible,
                     .causal = true,
                     .segment = {}};
  if (segments.size() == 1) mask.segment = segments.front();
  return mask;
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
  Fold fold;
  if (cut().num_visible > 1) {
    fold.partial = context_.arena.allocate(args.query.shape(), DType::kFloat32, MemoryKind::kRing);
  }
  if (rotates()) {
    ring_forward(args, fold);
  } else {
    gathered_forward(args, fold);
  }
}

void SequenceAttention::attend_backward(const Backward& args, Tensor delta) {
  const Arena::Scope scope(context_.arena);
  context_.ops.fill(args.dquery, 0, context_.compute);
  if (rotates()) {
    ring_backward(args, delta);
  } else {
    gathered_backward(args, delta);
  }
}

void SequenceAttention::forward_step(const Forward& args, Fold& fold, Tensor key_value,
                                     int key_rank, int free_processors) {
  if (!is_visible(key_rank)) return;
  AttentionForwardArgs step{args.query,
                            key_value[0],
                            key_value[1],
                            fold.partial,
                            args.lse,
                            args.out,
                            mask(args.lowest_visible, key_rank),
                            softmax_scale(args.query)};
  step.first = fold.done == 0;
  step.last = ++fold.done == cut().num_visible;
  step.query_chunk_size = options_.query_chunk_size;
  step.key_chunk_size = options_.key_chunk_size;
  step.free_processors = free_processors;
  const Region region(context_.observer, context_.compute, {"attention forward"});
  context_.ops.attention_forward(step, context_.compute);
}

void SequenceAttention::backward_step(const Backward& args, Tensor delta, Tensor key_value,
                                      int key_rank, Tensor dkey_value) {
  if (!is_visible(key_rank)) return context_.ops.fill(dkey_value, 0, context_.compute);
  AttentionBackwardArgs step{args.query,
                             key_value[0],
                             key_value[1],
                             args.dout,
                             args.lse,
                             delta,
                             args.dquery,
                             dkey_value[0],
                             dkey_value[1],
                             mask(args.lowest_visible, key_rank),
                             softmax_scale(args.query)};
  step.overwrite_key_value = true;
  step.query_chunk_size = options_.query_chunk_size;
  step.key_chunk_size = options_.key_chunk_size;
  const Region region(context_.observer, context_.compute, {"attention backward"});
  context_.ops.attention_backward(step, context_.compute);
}

void SequenceAttention::wait_for_hop(const char* what, int step, const Event& event) {
  context_.wait_for(event,
                    {.what = what, .index = step, .group = context_.mesh.ring->name().c_str()});
}

void SequenceAttention::hop(const char* what, int step, Tensor sent, Tensor received) {
  const int next = (rank() + 1) % num_ranks();
  const int previous = (rank() + num_ranks() - 1) % num_ranks();
  context_.compute.record(*computed_);
  context_.ring.wait(*computed_);
  const Region region(context_.observer, context_.ring, {what, nullptr, step});
  context_.mesh.ring->exchange(std::array{Transfer{sent, next, received, previous}}, context_.ring);
}

// At step i this rank holds the block of rank r - i. A hop is posted before the step that hides
// it; it may start once the compute stream has finished with the buffer it fills (step i - 1).
void SequenceAttention::ring_forward(const Forward& args, Fold& fold) {
  std::array<Tensor, 2> buffers;
  for (int i = 0; i < 2 && i < num_ranks() - 1; ++i) {
    buffers[static_cast<std::size_t>(i)] =
        context_.arena.allocate(args.key_value.shape(), args.key_value.dtype(), MemoryKind::kRing);
  }
  Tensor current = args.key_value;
  for (int step = 0; step < num_ranks(); ++step) {
    const Region region(context_.observer, context_.compute, {"ring step", nullptr, step});
    const bool last = step + 1 == num_ranks();
    const Tensor next = buffers[static_cast<std::size_t>(step % 2)];
    if (!last) {
      hop("hop", step, current, next);
      context_.ring.record(*arrived_);
    }
    forward_step(args, fold, current, owner(step), last ? 0 : options_.ring_sms);
    if (!last) wait_for_hop("waiting for hop", step, *arrived_);
    current = next;
  }
}

// As forward; the fp32 gradients of a block follow it one hop behind: at step i this rank adds its
// contribution to what the ranks before it have added, and sends the sum on while step i + 1
// computes. After as many hops as ranks they are with their owner again.
void SequenceAttention::ring_backward(const Backward& args, Tensor delta) {
  if (num_ranks() == 1) {
    backward_step(args, delta, args.key_value, rank(), args.dkey_value);
    return;
  }
  std::array<Tensor, 2> buffers;
  for (Tensor& buffer : buffers) {
    buffer =
        context_.arena.allocate(args.key_value.shape(), args.key_value.dtype(), MemoryKind::kRing);
  }
  const Tensor contribution =
      context_.arena.allocate(args.dkey_value.shape(), DType::kFloat32, MemoryKind::kRing);
  const Tensor travelling =
      context_.arena.allocate(args.dkey_value.shape(), DType::kFloat32, MemoryKind::kRing);
  // Sums arrive in two places by turns such that the last arrival is in dkey_value.
  const auto sum_at = [&](int step) {
    return (num_ranks() - step) % 2 == 0 ? args.dkey_value : travelling;
  };
  Tensor current = args.key_value;
  for (int step = 0; step < num_ranks(); ++step) {
    const Region region(context_.observer, context_.compute, {"ring step", nullptr, step});
    const bool last = step + 1 == num_ranks();
    const Tensor next = buffers[static_cast<std::size_t>(step % 2)];
    if (!last) {
      hop("hop", step, current, next);
      context_.ring.record(*arrived_);
    }
    const Tensor sum = sum_at(step);
    const bool adds = step > 0 && is_visible(owner(step));
    if (step == 0) backward_step(args, delta, current, owner(step), sum);
    if (adds) backward_step(args, delta, current, owner(step), contribution);
    if (step > 0) wait_for_hop("waiting for gradient hop", step - 1, *returned_);
    if (adds) context_.ops.add(contribution, sum, context_.compute);
    hop("gradient hop", step, sum, sum_at(step + 1));
    context_.ring.record(*returned_);
    if (!last) wait_for_hop("waiting for hop", step, *arrived_);
    current = next;
  }
  wait_for_hop("waiting for gradient hop", num_ranks() - 1, *returned_);
}

Tensor SequenceAttention::gather_key_value(Tensor key_value) {
  Shape shape{num_ranks()};
  for (int i = 0; i < key_value.shape().rank(); ++i) shape.append(key_value.size(i));
  const Tensor whole = context_.arena.allocate(shape, key_value.dtype(), MemoryKind::kRing);
  context_.mesh.ring->all_gather(key_value, whole, context_.compute);
  return whole;
}

void SequenceAttention::gathered_forward(const Forward& args, Fold& fold) {
  const Tensor whole = gather_key_value(args.key_value);
  for (int r = 0; r < num_ranks(); ++r) forward_step(args, fold, whole[r], r, 0);
}

void SequenceAttention::gathered_backward(const Backward& args, Tensor delta) {
  const Tensor whole = gather_key_value(args.key_value);
  const Tensor dwhole = context_.arena.allocate(whole.shape(), DType::kFloat32, MemoryKind::kRing);
  for (int r = 0; r < num_ranks(); ++r) backward_step(args, delta, whole[r], r, dwhole[r]);
  context_.mesh.ring->reduce_scatter(dwhole, args.dkey_value, ReduceOp::kSum, context_.compute);
}

}  // namespace ringtrain
