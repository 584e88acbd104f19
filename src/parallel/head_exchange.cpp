#include "ringtrain/parallel/head_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// How N heads of [..., T, N, H] are spread over U ranks, each of which gets one part.
struct Split {
  std::int64_t batch;   // of all dimensions before T
  std::int64_t tokens;  // T
  std::int64_t heads;   // of a part: n
  std::int64_t parts;   // that differ: U, or N where that is less
  std::int64_t copies;  // of a part: part p goes to ranks [p copies, (p + 1) copies)
  std::int64_t head_dim;

  Split(const Shape& shape, std::int64_t ranks)
      : batch(1),
        tokens(shape[-3]),
        heads(std::max<std::int64_t>(shape[-2] / ranks, 1)),
        parts(std::min(shape[-2], ranks)),
        copies(ranks / parts),
        head_dim(shape[-1]) {
    if (heads * parts != shape[-2] || copies * parts != ranks) {
      throw InvalidArgument(
          fmt::format("{} heads cannot be exchanged between {} ranks: one must "
                      "divide the other",
                      shape[-2], ranks));
    }
    for (int i = 0; i < shape.rank() - 3; ++i) batch *= shape[i];
  }
  std::int64_t part_width() const { return heads * head_dim; }
  // All parts of a rank's tokens, as messages: contiguous for each rank and sequence.
  Shape messages() const { return {parts, batch, tokens, part_width()}; }
  // The same memory with a row for each token of the rank: [B T, N H] when the two are swapped.
  Shape by_part() const { return {parts, batch * tokens, part_width()}; }
  Shape by_token() const { return {batch * tokens, parts, part_width()}; }
};

}  // namespace

Tensor HeadExchange::to_heads(Tensor tokens) {
  const Region region(context_.observer, context_.compute, {"tokens to heads"});
  const Split split(tokens.shape(), size());
  Shape shape;
  for (int i = 0; i < tokens.shape().rank() - 3; ++i) shape.append(tokens.size(i));
  shape.append(size() * split.tokens);
  shape.append(split.heads);
  shape.append(split.head_dim);
  const Tensor heads = context_.arena.allocate(shape, tokens.dtype(), MemoryKind::kRing);
  const Tensor rows = heads.reshape({split.batch, size() * split.tokens, split.part_width()});

  const Arena::Scope scope(context_.arena);
  const Tensor parts = context_.arena.allocate(split.messages(), tokens.dtype(), MemoryKind::kRing);
  context_.ops.transpose(tokens.reshape(split.by_token()), parts.reshape(split.by_part()),
                         context_.compute);
  std::vector<Transfer> transfers;
  for (int rank = 0; rank < size(); ++rank) {
    for (std::int64_t b = 0; b < split.batch; ++b) {
      transfers.push_back({parts[rank / split.copies][b], rank,
                           rows[b].slice(rank * split.tokens, split.tokens), rank});
    }
  }
  context_.mesh.ulysses->exchange(transfers, context_.compute);
  return heads;
}

void HeadExchange::to_tokens(Tensor heads, Tensor tokens) {
  const Region region(context_.observer, context_.compute, {"heads to tokens"});
  const Split split(tokens.shape(), size());
  const Tensor rows = heads.reshape({split.batch, size() * split.tokens, split.part_width()});

  const Arena::Scope scope(context_.arena);
  Shape shape{split.copies};
  for (int i = 0; i < 4; ++i) shape.append(split.messages()[i]);
  const Tensor arrived = context_.arena.allocate(shape, tokens.dtype(), MemoryKind::kRing);
  std::vector<Transfer> transfers;
  for (int rank = 0; rank < size(); ++rank) {
    for (std::int64_t b = 0; b < split.batch; ++b) {
      transfers.push_back({rows[b].slice(rank * split.tokens, split.tokens), rank,
                           arrived[rank % split.copies][rank / split.copies][b], rank});
    }
  }
  context_.mesh.ulysses->exchange(transfers, context_.compute);
  for (std::int64_t copy = 1; copy < split.copies; ++copy) {
    context_.ops.add(arrived[copy], arrived[0], context_.compute);
  }
  context_.ops.transpose(arrived[0].reshape(split.by_part()), tokens.reshape(split.by_token()),
                         context_.compute);
}

Tensor HeadExchange::rows_to_heads(Tensor tokens) {
  const std::int64_t batch = tokens.size(0), heads = tokens.size(1) / size();
  const std::int64_t length = tokens.size(2);
  const Tensor out =
      context_.arena.allocate({batch, heads, size() * length}, tokens.dtype(), MemoryKind::kRing);

  const Arena::Scope scope(context_.arena);
  const Tensor arrived =
      context_.arena.allocate({size(), batch, heads * length}, tokens.dtype(), MemoryKind::kRing);
  const Tensor parts = tokens.reshape({batch, size(), heads * length});
  std::vector<Transfer> transfers;
  for (int rank = 0; rank < size(); ++rank) {
    for (std::int64_t b = 0; b < batch; ++b) {
      transfers.push_back({parts[b][rank], rank, arrived[rank][b], rank});
    }
  }
  context_.mesh.ulysses->exchange(transfers, context_.compute);
  context_.ops.transpose(arrived.reshape({size(), batch * heads, length}),
                         out.reshape({batch * heads, size(), length}), context_.compute);
  return out;
}

}  // namespace ringtrain
