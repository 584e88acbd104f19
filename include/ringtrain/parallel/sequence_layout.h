#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ringtrain/ops/attention_segment.h"

namespace ringtrain {

/// How a sequence is cut over the P members of the ring.
///   contiguous  member r holds tokens [r S/P, (r+1) S/P): the original's; causal work is uneven
///   striped     member r holds tokens r, r + P, r + 2P, ...
///   zigzag      member r holds chunks r and 2P - 1 - r of 2P: every one does the same causal work
enum class LayoutKind { kContiguous, kStriped, kZigzag };

/// "contiguous", "striped" or "zigzag".
std::string_view name_of(LayoutKind kind);

/// The one place that knows which token is where: positions, masks and schedules come from it.
/// A member of the ring is a group of `ulysses_size` neighbouring sp ranks, each of which holds one
/// of as many equal pieces of the group's tokens; without ulysses a group is a rank. With one
/// group every layout is the identity. Local positions ascend in every layout, of a rank and of a
/// group.
class SequenceLayout {
 public:
  /// `num_ranks`: of the sp axis, a multiple of ulysses_size.
  /// Errors: InvalidArgument if seq_length is not a multiple of unit() (with the nearest legal
  /// lengths), naming --sp_layout.
  SequenceLayout(LayoutKind kind, std::int64_t seq_length, int num_ranks, int ulysses_size = 1);

  /// The inverse of name_of. Errors: InvalidArgument.
  static LayoutKind parse(std::string_view name);

  LayoutKind kind() const { return kind_; }
  int num_ranks() const { return num_groups_ * ulysses_size_; }
  /// Members of the ring.
  int num_groups() const { return num_groups_; }
  int group_of(int rank) const { return rank / ulysses_size_; }
  std::int64_t seq_length() const { return seq_length_; }
  /// Tokens of one rank.
  std::int64_t local_length() const { return seq_length_ / num_ranks(); }
  std::int64_t group_length() const { return seq_length_ / num_groups_; }
  /// seq_length must be a multiple: of the ranks, and for zigzag of twice the groups.
  std::int64_t unit() const;

  /// Position in the whole sequence of each token of `rank`; ascending.
  std::vector<std::int32_t> positions(int rank) const;
  /// The same of a group: the positions of its ranks in order.
  std::vector<std::int32_t> group_positions(int group) const;
  /// Tokens of `group` at positions below `position`, which is in [0, seq_length()].
  std::int64_t tokens_before(int group, std::int64_t position) const;
  /// The visible part of a causal step of queries of q_group against keys of k_group; at most 4
  /// segments, empty if the step is fully masked.
  std::vector<AttentionSegment> causal_segments(int q_group, int k_group) const;

 private:
  LayoutKind kind_;
  std::int64_t seq_length_;
  int num_groups_;
  int ulysses_size_;
};

/// The layouts that the batches of a run may be cut by, most wanted first: what --sp_layout names;
/// for "auto" zigzag where seq_length allows it, else striped, and both where `documents` make
/// their work differ from batch to batch. Errors: those of SequenceLayout.
std::vector<SequenceLayout> sequence_layouts(std::string_view sp_layout, bool documents,
                                             std::int64_t seq_length, int num_ranks,
                                             int ulysses_size = 1);

}  // namespace ringtrain
