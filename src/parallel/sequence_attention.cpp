#include "ringtrain/parallel/sequence_attention.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "attention_steps.h"
#include "gathered_attention.h"
#include "ring_attention.h"

namespace ringtrain {

namespace {

/// Memory for the messages of a pass, first of those to heads and then of those to tokens. Only the
/// ring stream comes from one to the other, and in this order.
struct MessageRoom {
  MessageRoom(Arena& arena, std::size_t sent_bytes, std::size_t returned_bytes)
      : words(arena.allocate({static_cast<std::int64_t>(std::max(sent_bytes, returned_bytes) / 4)},
                             DType::kInt32, MemoryKind::kRing)),
        sent(words.raw(), words.bytes()),
        returned(words.raw(), words.bytes()) {}
  Tensor words;
  Arena sent, returned;
};

}  // namespace

struct SequenceAttention::Parts {
  Parts(Context& context, const std::vector<SequenceLayout>& layouts,
        const SequenceAttentionOptions& options)
      : steps(context, layouts, options),
        ring(context, steps, options.gradient_dtype),
        gathered(context, steps) {}

  AttentionSteps steps;
  RingAttention ring;
  GatheredAttention gathered;
};

SequenceAttention::SequenceAttention(Context& context, const std::vector<SequenceLayout>& layouts,
                                     const SequenceAttentionOptions& options)
    : context_(context),
      options_(options),
      exchange_(context, options.head_groups),
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

// All head groups are on their way before the first is attended; what is made of one travels back
// while the next is attended, from the memory where its tokens will be.
void SequenceAttention::forward(const Forward& args) {
  if (exchange_.size() == 1) return attend(args, 0);
  const Arena::Scope scope(context_.arena);
  const int groups = exchange_.groups_of(args.key_value.size(3));
  const Tensor query = exchange_.make_heads(args.query, groups);
  const Tensor key_value = exchange_.make_heads(args.key_value, groups);
  const Tensor lse = args.lse.reshape({groups, query.size(1), query.size(3), query.size(2)});
  MessageRoom room(context_.arena,
                   exchange_.pack_bytes(args.query) + exchange_.pack_bytes(args.key_value),
                   exchange_.room_bytes(args.out));
  const std::array<HeadExchange::Sides, 2> sent{
      {{query, exchange_.pack(args.query, groups, room.sent)},
       {key_value, exchange_.pack(args.key_value, groups, room.sent)}}};
  for (int g = 0; g < groups; ++g) exchange_.to_heads(g, sent);
  const std::array<HeadExchange::Sides, 1> returned{
      {{exchange_.heads_in(args.out, groups),
        exchange_.make_room(args.out, groups, room.returned)}}};
  for (int g = 0; g < groups; ++g) {
    exchange_.wait_for_heads(g);
    attend({query[g], key_value[g], args.lowest_visible, returned[0].heads[g], lse[g]},
           groups > 1 ? context_.mesh.ulysses->free_processors() : 0);
    exchange_.to_tokens(g, returned);
  }
  exchange_.wait_for_tokens(groups - 1);
  exchange_.unpack(returned[0].messages, args.out);
}

void SequenceAttention::backward(const Backward& args) {
  const Arena::Scope scope(context_.arena);
  const Tensor delta =
      context_.arena.allocate(args.lse.shape(), DType::kFloat32, MemoryKind::kWorkspace);
  context_.ops.attention_delta({args.out, args.dout, delta}, context_.compute);
  if (exchange_.size() == 1) return attend_backward(args, delta);
  const int groups = exchange_.groups_of(args.key_value.size(3));
  const Tensor query = exchange_.make_heads(args.query, groups);
  const Tensor key_value = exchange_.make_heads(args.key_value, groups);
  const Tensor dout = exchange_.make_heads(args.dout, groups);
  const Tensor dquery = exchange_.heads_in(args.dquery, groups);
  const Tensor dkey_value = exchange_.heads_in(args.dkey_value, groups);
  const HeadExchange::Rows rows = exchange_.make_rows(delta, groups);
  const Tensor lse = args.lse.reshape(rows.heads.shape());
  MessageRoom room(context_.arena,
                   exchange_.pack_bytes(args.query) + exchange_.pack_bytes(args.key_value) +
                       exchange_.pack_bytes(args.dout),
                   exchange_.room_bytes(args.dquery) + exchange_.room_bytes(args.dkey_value));
  const std::array<HeadExchange::Sides, 3> sent{
      {{query, exchange_.pack(args.query, groups, room.sent)},
       {key_value, exchange_.pack(args.key_value, groups, room.sent)},
       {dout, exchange_.pack(args.dout, groups, room.sent)}}};
  for (int g = 0; g < groups; ++g) exchange_.to_heads(g, sent, rows);
  const std::array<HeadExchange::Sides, 2> returned{
      {{dquery, exchange_.make_room(args.dquery, groups, room.returned)},
       {dkey_value, exchange_.make_room(args.dkey_value, groups, room.returned)}}};
  for (int g = 0; g < groups; ++g) {
    exchange_.wait_for_heads(g, rows);
    attend_backward({query[g],
                     key_value[g],
                     args.lowest_visible,
                     {},
                     lse[g],
                     dout[g],
                     dquery[g],
                     dkey_value[g]},
                    rows.heads[g]);
    exchange_.to_tokens(g, returned);
  }
  exchange_.wait_for_tokens(groups - 1);
  exchange_.unpack(returned[0].messages, args.dquery);
  exchange_.unpack(returned[1].messages, args.dkey_value);
}

void SequenceAttention::attend(const Forward& args, int free_processors) {
  const Arena::Scope scope(context_.arena);
  if (rotates()) {
    parts_->ring.forward(args, free_processors);
  } else {
    parts_->gathered.forward(args, free_processors);
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
