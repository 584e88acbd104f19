#include "ringtrain/parallel/sequence_layout.h"

#include <fmt/format.h>

#include <cstddef>
#include <limits>
#include <numeric>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

std::string_view name_of(LayoutKind kind) {
  switch (kind) {
    case LayoutKind::kContiguous:
      return "contiguous";
    case LayoutKind::kStriped:
      return "striped";
    case LayoutKind::kZigzag:
      break;
  }
  return "zigzag";
}

void check_rank(int rank, int num_ranks) {
  if (rank >= 0 && rank < num_ranks) return;
  throw InvalidArgument(
      fmt::format("sequence layout: {} is not one of {} sp ranks", rank, num_ranks));
}

}  // namespace

SequenceLayout::SequenceLayout(LayoutKind kind, std::int64_t seq_length, int num_ranks)
    : kind_(kind), seq_length_(seq_length), num_ranks_(num_ranks) {
  if (num_ranks < 1) {
    throw InvalidArgument(fmt::format("sequence layout: sp must be at least 1, got {}", num_ranks));
  }
  if (seq_length > std::numeric_limits<std::int32_t>::max()) {
    throw InvalidArgument(
        fmt::format("seq_length {} is too long: positions are 32 bits wide, at "
                    "most {}",
                    seq_length, std::numeric_limits<std::int32_t>::max()));
  }
  if (seq_length > 0 && seq_length % unit() == 0) return;
  const std::int64_t below = seq_length / unit() * unit();
  const std::string nearest = below > 0 && seq_length > 0
                                  ? fmt::format("{} or {}", below, below + unit())
                                  : fmt::format("{}", unit());
  throw InvalidArgument(
      fmt::format("seq_length {} is not a positive multiple of {}, which --sp_layout={} with sp={} "
                  "needs; the nearest legal length is {}",
                  seq_length, unit(), name_of(kind), num_ranks, nearest));
}

LayoutKind SequenceLayout::parse(std::string_view name) {
  if (name == "contiguous") return LayoutKind::kContiguous;
  if (name == "striped") return LayoutKind::kStriped;
  if (name == "zigzag" || name == "auto") return LayoutKind::kZigzag;
  throw InvalidArgument(
      fmt::format("--sp_layout={} is unknown; expected auto, contiguous, striped or zigzag", name));
}

std::int64_t SequenceLayout::unit() const {
  const bool is_zigzag = kind_ == LayoutKind::kZigzag && num_ranks_ > 1;
  return is_zigzag ? 2 * std::int64_t{num_ranks_} : num_ranks_;
}

std::vector<std::int32_t> SequenceLayout::positions(int rank) const {
  check_rank(rank, num_ranks_);
  std::vector<std::int32_t> positions(static_cast<std::size_t>(local_length()));
  const auto local = static_cast<std::int32_t>(local_length());
  if (kind_ == LayoutKind::kStriped) {
    for (std::int32_t i = 0; i < local; ++i) {
      positions[static_cast<std::size_t>(i)] = i * num_ranks_ + rank;
    }
  } else if (kind_ == LayoutKind::kContiguous || num_ranks_ == 1) {
    std::iota(positions.begin(), positions.end(), rank * local);
  } else {
    const std::int32_t chunk = local / 2;
    const auto middle = positions.begin() + chunk;
    std::iota(positions.begin(), middle, rank * chunk);
    std::iota(middle, positions.end(), (2 * num_ranks_ - 1 - rank) * chunk);
  }
  return positions;
}

std::vector<AttentionSegment> SequenceLayout::causal_segments(int q_rank, int k_rank) const {
  check_rank(q_rank, num_ranks_);
  check_rank(k_rank, num_ranks_);
  const std::int64_t local = local_length();
  // Local positions ascend, so a rank sees its own keys as in a plain causal sequence.
  if (q_rank == k_rank) return {{0, local, 0, local, 0}};
  switch (kind_) {
    case LayoutKind::kContiguous:
      if (k_rank < q_rank) return {{0, local, 0, local, local}};
      return {};
    case LayoutKind::kStriped:
      // Token i of q_rank is at i P + q_rank: it sees key i of an earlier rank, not of a later one.
      if (k_rank < q_rank) return {{0, local, 0, local, 0}};
      if (local == 1) return {};
      return {{0, local, 0, local, -1}};
    case LayoutKind::kZigzag:
      break;
  }
  // Chunks k_rank and 2P-1-k_rank of keys: an earlier rank's first chunk comes before, and its
  // second after, both chunks of q_rank; a later rank's both lie between the two.
  const std::int64_t chunk = local / 2;
  if (k_rank < q_rank) return {{0, local, 0, chunk, chunk}};
  return {{chunk, chunk, 0, local, local}};
}

}  // namespace ringtrain
