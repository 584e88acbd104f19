#include "ringtrain/parallel/sequence_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

void check_index(std::string_view what, int index, int count) {
  if (index >= 0 && index < count) return;
  throw InvalidArgument(fmt::format("sequence layout: {} is not one of {} {}", index, count, what));
}

}  // namespace

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

SequenceLayout::SequenceLayout(LayoutKind kind, std::int64_t seq_length, int num_ranks,
                               int ulysses_size)
    : kind_(kind), seq_length_(seq_length), num_groups_(0), ulysses_size_(ulysses_size) {
  if (num_ranks < 1 || ulysses_size < 1 || num_ranks % ulysses_size != 0) {
    throw InvalidArgument(
        fmt::format("sequence layout: sp must be a multiple of the ulysses size, both at least 1, "
                    "got {} and {}",
                    num_ranks, ulysses_size));
  }
  num_groups_ = num_ranks / ulysses_size;
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
  if (name == "zigzag") return LayoutKind::kZigzag;
  throw InvalidArgument(
      fmt::format("--sp_layout={} is unknown; expected auto, contiguous, striped or zigzag", name));
}

std::int64_t SequenceLayout::unit() const {
  const bool in_chunks = kind_ == LayoutKind::kZigzag && num_groups_ > 1;
  return std::int64_t{num_groups_} * std::lcm(in_chunks ? 2 : 1, ulysses_size_);
}

std::vector<std::int32_t> SequenceLayout::positions(int rank) const {
  check_index("sp ranks", rank, num_ranks());
  const std::vector<std::int32_t> group = group_positions(group_of(rank));
  const auto first = group.begin() + rank % ulysses_size_ * local_length();
  return {first, first + local_length()};
}

std::vector<std::int32_t> SequenceLayout::group_positions(int group) const {
  check_index("groups of sp ranks", group, num_groups_);
  std::vector<std::int32_t> positions(static_cast<std::size_t>(group_length()));
  const auto length = static_cast<std::int32_t>(group_length());
  if (kind_ == LayoutKind::kStriped) {
    for (std::int32_t i = 0; i < length; ++i) {
      positions[static_cast<std::size_t>(i)] = i * num_groups_ + group;
    }
  } else if (kind_ == LayoutKind::kContiguous || num_groups_ == 1) {
    std::iota(positions.begin(), positions.end(), group * length);
  } else {
    const std::int32_t chunk = length / 2;
    const auto middle = positions.begin() + chunk;
    std::iota(positions.begin(), middle, group * chunk);
    std::iota(middle, positions.end(), (2 * num_groups_ - 1 - group) * chunk);
  }
  return positions;
}

std::int64_t SequenceLayout::tokens_before(int group, std::int64_t position) const {
  const auto of_piece = [&](std::int64_t index, std::int64_t length) {
    return std::clamp<std::int64_t>(position - index * length, 0, length);
  };
  if (kind_ == LayoutKind::kStriped) return (position + num_groups_ - 1 - group) / num_groups_;
  if (kind_ == LayoutKind::kContiguous || num_groups_ == 1) return of_piece(group, group_length());
  const std::int64_t chunk = group_length() / 2;
  return of_piece(group, chunk) + of_piece(2 * num_groups_ - 1 - group, chunk);
}

std::vector<AttentionSegment> SequenceLayout::causal_segments(int q_group, int k_group) const {
  check_index("groups of sp ranks", q_group, num_groups_);
  check_index("groups of sp ranks", k_group, num_groups_);
  const std::int64_t local = group_length();
  // Local positions ascend, so a group sees its own keys as in a plain causal sequence.
  if (q_group == k_group) return {{0, local, 0, local, 0}};
  switch (kind_) {
    case LayoutKind::kContiguous:
      if (k_group < q_group) return {{0, local, 0, local, local}};
      return {};
    case LayoutKind::kStriped:
      // Token i of q_group is at i P + q_group: it sees key i of an earlier group, not of a later.
      if (k_group < q_group) return {{0, local, 0, local, 0}};
      if (local == 1) return {};
      return {{0, local, 0, local, -1}};
    case LayoutKind::kZigzag:
      break;
  }
  // Chunks k_group and 2P-1-k_group of keys: an earlier group's first chunk comes before, and its
  // second after, both chunks of q_group; a later group's both lie between the two.
  const std::int64_t chunk = local / 2;
  if (k_group < q_group) return {{0, local, 0, chunk, chunk}};
  return {{chunk, chunk, 0, local, local}};
}

std::vector<SequenceLayout> sequence_layouts(std::string_view sp_layout, bool documents,
                                             std::int64_t seq_length, int num_ranks,
                                             int ulysses_size) {
  if (sp_layout != "auto") {
    return {{SequenceLayout::parse(sp_layout), seq_length, num_ranks, ulysses_size}};
  }
  const SequenceLayout striped(LayoutKind::kStriped, seq_length, num_ranks, ulysses_size);
  const bool halves = striped.group_length() % 2 == 0 || striped.num_groups() == 1;
  if (!halves) return {striped};
  const SequenceLayout zigzag(LayoutKind::kZigzag, seq_length, num_ranks, ulysses_size);
  if (!documents || striped.num_groups() == 1) return {zigzag};
  return {zigzag, striped};
}

}  // namespace ringtrain
