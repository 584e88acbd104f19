#include "ringtrain/parallel/sequence_attention.h"

#include <algorithm>
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

/// What `segment` shows of keys [token, token + tokens), counted from `token`; nothing if that is
/// none.
std::optional<AttentionSegment> among_keys(const AttentionSegment& segment, std::int64_t token,
                                           std::int64_t tokens) {
  const std::int64_t begin = std::max(segment.k0, token);
  const std::int64_t end = std::min(segment.k0 + segment.kn, token + tokens);
  const std::int64_t shift = segment.shift - (begin - segment.k0);
  if (begin >= end || segment.qn + shift <= 0) return {};  // the last row sees the first of them
  return AttentionSegment{segment.q0, segment.qn, begin - token, end - begin, shift};
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
      arrived_(context.device.make_event()) {
  for (auto& event : returned_) event = context.device.make_event();
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

AttentionMask SequenceAttention::mask(Tensor lowest_visible, int key_rank,
                                      const KeyPart& part) const {
  const auto& segments = cut().segments[static_cast<std::size_t>(key_rank)];
  AttentionMask mask{.query_positions = cut().positions[rank()],
                     .key_positions = cut().positions[key_rank].slice(part.token, part.tokens),
                     .lowest_visible = {},
                     .causal = true,
                     .segment = {}};
  if (lowest_visible) mask.lowest_visible = lowest_visible.slice(part.sequence, part.sequences);
  if (segments.size() == 1) {
    mask.segment = among_keys(segments.front(), part.token, part.tokens);
  }
  return mask;
}

bool SequenceAttention::is_visible(int key_rank, const KeyPart& part) const {
  const auto& segments = cut().segments[static_cast<std::size_t>(key_rank)];
  return std::any_of(segments.begin(), segments.end(), [&](const AttentionSegment& segment) {
    return among_keys(segment, part.token, part.tokens).has_value();
  });
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
                                     int key_rank, int free_processors,
                                     const std::vector<Lane>& lanes) {
  if (!is_visible(key_rank)) return;
  AttentionForwardArgs step{args.query,
                            key_value[0],
                            key_value[1],
                            fold.partial,
                            args.lse,
                            args.out,
                            mask(args.lowest_visible, key_rank, whole(key_value)),
                            softmax_scale(args.query)};
  step.first = fold.done == 0;
  step.last = ++fold.done == cut().num_visible;
  step.query_chunk_size = options_.query_chunk_size;
  step.key_chunk_size = options_.key_chunk_size;
  step.free_processors = free_processors;
  for (const Lane& lane : lanes) {
    step.first_head = lane.first_head;
    step.num_heads = lane.num_heads;
    const Region region(context_.observer, *lane.stream, {"attention forward"});
    context_.ops.attention_forward(step, *lane.stream);
  }
}

// Each half of the heads on a stream of its own, where that leaves communication what it wants:
// behind the last blocks of one half, the other begins.
std::vector<SequenceAttention::Lane> SequenceAttention::lanes_of(const Forward& args) const {
  const std::int64_t heads = args.query.size(2);
  const std::int64_t kv_heads = args.key_value.size(3);
  if (num_ranks() == 1 || kv_heads < 2 || options_.ring_sms > 0 ||
      !steps_overlap(args.query, args.key_value, args.lowest_visible)) {
    return {{&context_.compute, 0, 0}};
  }
  const std::int64_t half = kv_heads / 2 * (heads / kv_heads);
  return {{&context_.compute, 0, half}, {&context_.beside, half, heads - half}};
}

SequenceAttention::KeyPart SequenceAttention::whole(const Tensor& key_value) {
  return {0, key_value.size(1), 0, key_value.size(2)};
}

// While one message travels, the gradients of the other are computed, so each has half of the
// work of a step, whichever keys are visible: half of the sequences, or of a single one the middle
// half of the keys and the two quarters around it, since zigzag shows all keys or the first half.
SequenceAttention::Messages SequenceAttention::messages_of(const Tensor& key_value) {
  const std::int64_t sequences = key_value.size(1);
  const std::int64_t tokens = key_value.size(2);
  if (sequences > 1) {
    const std::int64_t half = sequences / 2;
    return {{{{0, half, 0, tokens}}, {{half, sequences - half, 0, tokens}}}};
  }
  Messages messages;
  const auto add = [&](std::size_t message, std::int64_t begin, std::int64_t end) {
    if (begin < end) messages[message].push_back({0, 1, begin, end - begin});
  };
  const std::int64_t first = tokens / 4;
  const std::int64_t last = tokens * 3 / 4;
  add(0, first, last);
  add(1, 0, first);
  add(1, last, tokens);
  return messages;
}

Tensor SequenceAttention::part_of(const Tensor& block, const KeyPart& part) {
  const std::int64_t row = block.size(2) * block.size(3);
  return block.view((part.sequence * block.size(1) + part.token) * row,
                    {part.sequences, part.tokens, block.size(2), block.size(3)});
}

void SequenceAttention::backward_step(const Backward& args, Tensor delta, Tensor key_value,
                                      int key_rank, Tensor dkey_value, const Parts& parts,
                                      bool overwrite, Stream& stream) {
  const Region region(context_.observer, stream, {"attention backward"});
  for (const KeyPart& part : parts) {
    backward_part(args, delta, key_value, key_rank, dkey_value, part, overwrite, stream);
  }
}

void SequenceAttention::backward_part(const Backward& args, Tensor delta, Tensor key_value,
                                      int key_rank, Tensor dkey_value, const KeyPart& part,
                                      bool overwrite, Stream& stream) {
  const Tensor dkey = part_of(dkey_value[0], part);
  const Tensor dvalue = part_of(dkey_value[1], part);
  if (!is_visible(key_rank, part)) {
    if (!overwrite) return;
    context_.ops.fill(dkey, 0, stream);
    context_.ops.fill(dvalue, 0, stream);
    return;
  }
  const auto rows = [&](const Tensor& tensor) {
    return tensor.slice(part.sequence, part.sequences);
  };
  AttentionBackwardArgs step{rows(args.query),
                             part_of(key_value[0], part),
                             part_of(key_value[1], part),
                             rows(args.dout),
                             rows(args.lse),
                             rows(delta),
                             rows(args.dquery),
                             dkey,
                             dvalue,
                             mask(args.lowest_visible, key_rank, part),
                             softmax_scale(args.query)};
  step.overwrite_key_value = overwrite;
  step.query_chunk_size = options_.query_chunk_size;
  step.key_chunk_size = options_.key_chunk_size;
  context_.ops.attention_backward(step, stream);
}

bool SequenceAttention::steps_overlap(const Tensor& query, const Tensor& key_value,
                                      const Tensor& lowest) const {
  for (int r = 0; r < num_ranks(); ++r) {
    if (!is_visible(r)) continue;
    if (!context_.ops.attention_overlaps(query, mask(lowest, r, whole(key_value)))) return false;
  }
  return true;
}

void SequenceAttention::wait_for_hop(const char* what, int step, const Event& event,
                                     Stream& stream) {
  const Region region(context_.observer, stream,
                      {.what = what, .index = step, .group = context_.mesh.ring->name().c_str()});
  stream.wait(event);
}

void SequenceAttention::order(Stream& before, Stream& after) {
  if (&before == &after) return;
  before.record(*computed_);
  after.wait(*computed_);
}

Transfer SequenceAttention::to_next(Tensor sent, Tensor received) const {
  return {sent, (rank() + 1) % num_ranks(), received, (rank() + num_ranks() - 1) % num_ranks()};
}

// The hop may start once `users` have finished with the buffers that it reads and fills.
void SequenceAttention::hop(const char* what, int step, std::span<const Transfer> transfers,
                            Event& done, std::span<Stream* const> users) {
  for (Stream* user : users) order(*user, context_.ring);
  {
    const Region region(context_.observer, context_.ring, {what, nullptr, step});
    context_.mesh.ring->exchange(transfers, context_.ring);
  }
  context_.ring.record(done);
}

// At step i this rank holds the block of rank r - i. A hop is posted before the step that hides
// it; it may start once the compute stream has finished with the buffer it fills (step i - 1).
void SequenceAttention::ring_forward(const Forward& args, Fold& fold) {
  std::array<Tensor, 2> buffers;
  for (int i = 0; i < 2 && i < num_ranks() - 1; ++i) {
    buffers[static_cast<std::size_t>(i)] =
        context_.arena.allocate(args.key_value.shape(), args.key_value.dtype(), MemoryKind::kRing);
  }
  const std::vector<Lane> lanes = lanes_of(args);
  std::vector<Stream*> streams;
  for (const Lane& lane : lanes) streams.push_back(lane.stream);
  order(context_.compute, *streams.back());
  Tensor current = args.key_value;
  for (int step = 0; step < num_ranks(); ++step) {
    const Region region(context_.observer, context_.compute, {"ring step", nullptr, step});
    const bool last = step + 1 == num_ranks();
    const Tensor next = buffers[static_cast<std::size_t>(step % 2)];
    if (!last) hop("hop", step, std::array{to_next(current, next)}, *arrived_, streams);
    forward_step(args, fold, current, owner(step), last ? 0 : options_.ring_sms, lanes);
    for (Stream* stream : streams) {
      if (!last) wait_for_hop("waiting for hop", step, *arrived_, *stream);
    }
    current = next;
  }
  order(*streams.back(), context_.compute);
}

// The gradients of the block that is here, on their way around the ring.
struct SequenceAttention::Travel {
  // Sums in fp32, which steps add to by turns such that the last ones arrive in dkey_value.
  std::array<Tensor, 2> sums;
  // Messages, where they travel in bf16; else the sums are what travels, from one to the other.
  Tensor rounded, received;
  int num_ranks;

  Tensor sum(int step) const {
    return rounded ? sums[0] : sums[static_cast<std::size_t>(num_ranks - step) % 2];
  }
};

SequenceAttention::Travel SequenceAttention::make_travel(Tensor dkey_value) {
  const auto allocate = [&](DType dtype) {
    return context_.arena.allocate(dkey_value.shape(), dtype, MemoryKind::kRing);
  };
  Travel travel{{dkey_value, {}}, {}, {}, num_ranks()};
  if (options_.gradient_dtype == DType::kFloat32) {
    travel.sums[1] = allocate(DType::kFloat32);
  } else {
    travel.rounded = allocate(options_.gradient_dtype);
    travel.received = allocate(options_.gradient_dtype);
  }
  return travel;
}

void SequenceAttention::send(const Travel& travel, const Parts& message, int step, Event& done,
                             Stream& stream) {
  const Tensor sent = travel.rounded ? travel.rounded : travel.sum(step);
  const Tensor received = travel.rounded ? travel.received : travel.sum(step + 1);
  if (travel.rounded) cast_parts(message, travel.sum(step), sent, stream);
  std::vector<Transfer> transfers;
  for (const KeyPart& part : message) {
    for (int i = 0; i < 2; ++i) {
      transfers.push_back(to_next(part_of(sent[i], part), part_of(received[i], part)));
    }
  }
  hop("gradient hop", step, transfers, done, std::array{&stream});
}

void SequenceAttention::receive(const Travel& travel, const Parts& message, int step,
                                const Event& done, Stream& stream) {
  wait_for_hop("waiting for gradient hop", step, done, stream);
  if (travel.rounded) cast_parts(message, travel.received, travel.sum(step + 1), stream);
}

void SequenceAttention::cast_parts(const Parts& message, Tensor in, Tensor out, Stream& stream) {
  for (const KeyPart& part : message) {
    for (int i = 0; i < 2; ++i) {
      context_.ops.cast(part_of(in[i], part), part_of(out[i], part), stream);
    }
  }
}

// As forward; the gradients of a block follow it one hop behind, in two messages. At step i this
// rank adds its contribution to what the ranks before it have added, one message after the other,
// and sends each on while the next is computed, until they are with their owner again. The first
// message sets out at step 1: this rank adds its own part when it returns, behind which the second
// one's last hop is hidden. Where steps may overlap, each message has a stream that computes: what
// one leaves idle in its last blocks, and while it waits, the other takes.
void SequenceAttention::ring_backward(const Backward& args, Tensor delta) {
  if (num_ranks() == 1) {
    backward_step(args, delta, args.key_value, rank(), args.dkey_value, {whole(args.key_value)},
                  true, context_.compute);
    return;
  }
  const auto allocate = [&](DType dtype) {
    return context_.arena.allocate(args.key_value.shape(), dtype, MemoryKind::kRing);
  };
  const std::array buffers{allocate(args.key_value.dtype()), allocate(args.key_value.dtype())};
  Travel travel = make_travel(args.dkey_value);
  const Messages messages = messages_of(args.key_value);
  const bool overlaps = steps_overlap(args.query, args.key_value, args.lowest_visible);
  const std::array<Stream*, kNumMessages> streams{&context_.compute,
                                                  overlaps ? &context_.beside : &context_.compute};
  order(context_.compute, *streams[1]);
  Tensor current = args.key_value;
  for (int step = 0; step < num_ranks(); ++step) {
    const Region region(context_.observer, context_.compute, {"ring step", nullptr, step});
    const bool last = step + 1 == num_ranks();
    const Tensor next = buffers[static_cast<std::size_t>(step % 2)];
    if (!last) hop("hop", step, std::array{to_next(current, next)}, *arrived_, streams);
    for (std::size_t m = 0; m < kNumMessages; ++m) {
      const int first = m == 0 ? 1 : 0;
      if (step < first) continue;
      if (step > first) receive(travel, messages[m], step - 1, *returned_[m], *streams[m]);
      backward_step(args, delta, current, owner(step), travel.sum(step), messages[m], step == first,
                    *streams[m]);
      send(travel, messages[m], step, *returned_[m], *streams[m]);
    }
    if (!last) {
      wait_for_hop("waiting for hop", step, *arrived_, *streams[0]);
      if (streams[1] != streams[0]) wait_for_hop("waiting for hop", step, *arrived_, *streams[1]);
    }
    current = next;
  }
  receive(travel, messages[0], num_ranks() - 1, *returned_[0], context_.compute);
  backward_step(args, delta, args.key_value, rank(), args.dkey_value, messages[0], false,
                context_.compute);
  order(*streams[1], context_.compute);
  receive(travel, messages[1], num_ranks() - 1, *returned_[1], context_.compute);
}

Tensor SequenceAttention::gather_key_value(Tensor key_value) {
  Shape shape{num_ranks()};
  for (int i = 0; i < key_value.shape().rank(); ++i) shape.append(key_value.size(i));
  const Tensor whole = context_.arena.allocate(shape, key_value.dtype(), MemoryKind::kRing);
  context_.mesh.ring->all_gather(key_value, whole, context_.compute);
  return whole;
}

void SequenceAttention::gathered_forward(const Forward& args, Fold& fold) {
  const Tensor all = gather_key_value(args.key_value);
  for (int r = 0; r < num_ranks(); ++r) {
    forward_step(args, fold, all[r], r, 0, {{&context_.compute, 0, 0}});
  }
}

void SequenceAttention::gathered_backward(const Backward& args, Tensor delta) {
  const Tensor all = gather_key_value(args.key_value);
  const Tensor dall = context_.arena.allocate(all.shape(), DType::kFloat32, MemoryKind::kRing);
  for (int r = 0; r < num_ranks(); ++r) {
    backward_step(args, delta, all[r], r, dall[r], {whole(args.key_value)}, true, context_.compute);
  }
  context_.mesh.ring->reduce_scatter(dall, args.dkey_value, ReduceOp::kSum, context_.compute);
}

}  // namespace ringtrain
