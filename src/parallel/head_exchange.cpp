#include "ringtrain/parallel/head_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// How N heads of [..., T, N, H] are spread over U ranks, each of which gets one part.
struct Split {
  std::int64_t batch;   // of all dimensions before T
  std::int64_t tokens;  // T
  std::int64_t parts;   // that differ: U, or N where that is less
  std::int64_t copies;  // of a part: part p goes to ranks [p copies, (p + 1) copies)
  std::int64_t groups;  // of a part's heads: G
  std::int64_t heads;   // of a group: n / G
  std::int64_t head_dim;

  Split(const Shape& shape, std::int64_t ranks, std::int64_t num_groups)
      : batch(1),
        tokens(shape[-3]),
        parts(std::min(shape[-2], ranks)),
        copies(ranks / parts),
        groups(num_groups),
        heads(shape[-2] / parts / num_groups),
        head_dim(shape[-1]) {
    if (parts * groups * heads != shape[-2] || copies * parts != ranks) {
      throw InvalidArgument(
          fmt::format("{} heads cannot be exchanged between {} ranks in {} groups: heads and ranks "
                      "must divide one another, and groups the heads of a rank",
                      shape[-2], ranks, groups));
    }
    for (int i = 0; i < shape.rank() - 3; ++i) batch *= shape[i];
  }
  std::int64_t width() const { return heads * head_dim; }
  Shape messages(std::int64_t of_each) const {
    return {of_each, parts * groups, batch, tokens, width()};
  }
  // A token's heads in order are those of the first part's groups, then of the next part's: one
  // transpose between the two makes or reads the messages of all of them.
  Shape by_message() const { return {parts * groups, batch * tokens, width()}; }
  Shape by_token() const { return {batch * tokens, parts * groups, width()}; }
};

/// [G, ..., U T, n / G, H] for [..., T, N, H].
Shape heads_shape(const Shape& tokens, int ranks, int groups) {
  const Split split(tokens, ranks, groups);
  Shape shape{groups};
  for (int i = 0; i < tokens.rank() - 3; ++i) shape.append(tokens[i]);
  shape.append(ranks * split.tokens);
  shape.append(split.heads);
  shape.append(split.head_dim);
  return shape;
}

/// Calls visit(rank, its piece of the heads, its piece of the messages) for every sequence.
template <typename Visit>
void for_each_piece(const HeadExchange::Sides& tensor, int group, int ranks, Visit&& visit) {
  const Tensor& messages = tensor.messages;
  const std::int64_t groups = tensor.heads.size(0), batch = messages.size(2);
  const std::int64_t copies = ranks * groups / messages.size(1);
  const Tensor heads =
      tensor.heads[group].reshape({batch, ranks, messages.size(3) * messages.size(4)});
  for (int rank = 0; rank < ranks; ++rank) {
    const std::int64_t part = rank / copies * groups + group;
    for (std::int64_t b = 0; b < batch; ++b) {
      visit(rank, heads[b][rank], messages[rank % messages.size(0)][part][b]);
    }
  }
}

}  // namespace

HeadExchange::HeadExchange(Context& context, int max_groups)
    : context_(context),
      messages_(context, *context.mesh.ulysses),
      returned_(context.device.make_event()) {
  for (int i = 0; i < max_groups; ++i) arrived_.push_back(context.device.make_event());
}

int HeadExchange::groups_of(std::int64_t kv_heads) const {
  const auto most = std::ssize(arrived_);
  return kv_heads % (size() * most) == 0 ? static_cast<int>(most) : 1;
}

Tensor HeadExchange::make_heads(const Tensor& tokens, int groups) const {
  return context_.arena.allocate(heads_shape(tokens.shape(), size(), groups), tokens.dtype(),
                                 MemoryKind::kRing);
}

Tensor HeadExchange::heads_in(const Tensor& tokens, int groups) const {
  const Shape shape = heads_shape(tokens.shape(), size(), groups);
  if (shape.num_elements() != tokens.num_elements()) return make_heads(tokens, groups);
  return tokens.reshape(shape);
}

Tensor HeadExchange::pack(Tensor tokens, int groups, Arena& arena) {
  const Region region(context_.observer, context_.compute, {"packing heads"});
  const Split split(tokens.shape(), size(), groups);
  const Tensor messages = arena.allocate(split.messages(1), tokens.dtype(), MemoryKind::kRing);
  context_.ops.transpose(tokens.reshape(split.by_token()), messages.reshape(split.by_message()),
                         context_.compute);
  return messages;
}

std::size_t HeadExchange::pack_bytes(const Tensor& tokens) const {
  return Arena::aligned(tokens.bytes());
}

Tensor HeadExchange::make_room(const Tensor& tokens, int groups, Arena& arena) const {
  const Split split(tokens.shape(), size(), groups);
  return arena.allocate(split.messages(split.copies), tokens.dtype(), MemoryKind::kRing);
}

std::size_t HeadExchange::room_bytes(const Tensor& tokens) const {
  const Split split(tokens.shape(), size(), 1);
  return Arena::aligned(static_cast<std::size_t>(split.copies) * tokens.bytes());
}

void HeadExchange::unpack(Tensor messages, Tensor tokens) {
  const Region region(context_.observer, context_.compute, {"unpacking heads"});
  const Split split(tokens.shape(), size(), 1);
  const Shape by_message{messages.size(1), split.batch * split.tokens, messages.size(4)};
  const Shape by_token{by_message[1], by_message[0], by_message[2]};
  for (std::int64_t copy = 1; copy < split.copies; ++copy) {
    context_.ops.add(messages[copy], messages[0], context_.compute);
  }
  context_.ops.transpose(messages[0].reshape(by_message), tokens.reshape(by_token),
                         context_.compute);
}

HeadExchange::Rows HeadExchange::make_rows(Tensor tokens, int groups) const {
  const std::int64_t batch = tokens.size(0), heads = tokens.size(1) / size() / groups;
  const std::int64_t length = tokens.size(2);
  const auto allocate = [&](Shape shape) {
    return context_.arena.allocate(shape, tokens.dtype(), MemoryKind::kRing);
  };
  return {tokens, allocate({groups, size(), batch, heads * length}),
          allocate({groups, batch, heads, size() * length})};
}

void HeadExchange::to_heads(int group, std::span<const Sides> tensors, const Rows& rows) {
  std::vector<Transfer> transfers;
  for (const Sides& tensor : tensors) {
    for_each_piece(tensor, group, size(), [&](int rank, Tensor heads, Tensor message) {
      transfers.push_back({message, rank, heads, rank});
    });
  }
  if (rows.tokens) {
    const Tensor arrived = rows.arrived[group];
    const std::int64_t batch = arrived.size(1);
    const Tensor sent = rows.tokens.reshape({batch, size(), rows.arrived.size(0), arrived.size(2)});
    for (int rank = 0; rank < size(); ++rank) {
      for (std::int64_t b = 0; b < batch; ++b) {
        transfers.push_back({sent[b][rank][group], rank, arrived[rank][b], rank});
      }
    }
  }
  messages_.post("tokens to heads", group, transfers, *arrived_[static_cast<std::size_t>(group)],
                 std::array{&context_.compute});
}

void HeadExchange::wait_for_heads(int group, const Rows& rows) {
  messages_.wait("waiting for tokens to heads", group, *arrived_[static_cast<std::size_t>(group)],
                 context_.compute);
  if (!rows.tokens) return;
  const Tensor heads = rows.heads[group];
  const std::int64_t count = heads.size(0) * heads.size(1), length = rows.tokens.size(2);
  context_.ops.transpose(rows.arrived[group].reshape({size(), count, length}),
                         heads.reshape({count, size(), length}), context_.compute);
}

void HeadExchange::to_tokens(int group, std::span<const Sides> tensors) {
  std::vector<Transfer> transfers;
  for (const Sides& tensor : tensors) {
    for_each_piece(tensor, group, size(), [&](int rank, Tensor heads, Tensor message) {
      transfers.push_back({heads, rank, message, rank});
    });
  }
  messages_.post("heads to tokens", group, transfers, *returned_, std::array{&context_.compute});
}

void HeadExchange::wait_for_tokens(int group) {
  messages_.wait("waiting for heads to tokens", group, *returned_, context_.compute);
}

}  // namespace ringtrain
