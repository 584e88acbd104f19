#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ringtrain/ops/attention_segment.h"

namespace ringtrain {

/// How a sequence is cut over the sp axis.
///   contiguous  rank r holds tokens [r S/P, (r+1) S/P): the original's; causal work is uneven
///   striped     rank r holds tokens r, r + P, r + 2P, ...
///   zigzag      rank r holds chunks r and 2P - 1 - r of 2P: every rank does the same causal work
enum class LayoutKind { kContiguous, kStriped, kZigzag };

/// The one place that knows which token is where: positions, masks and schedules come from it.
/// With one rank every layout is the identity. Local positions ascend in every layout.
class SequenceLayout {
 public:
  /// Errors: InvalidArgument if seq_length is not a multiple of unit() (with the nearest legal
  /// lengths), naming --sp_layout.
  SequenceLayout(LayoutKind kind, std::int64_t seq_length, int num_ranks);

  /// "contiguous", "striped", "zigzag" or "auto" (zigzag). Errors: InvalidArgument.
  static LayoutKind parse(std::string_view name);

  LayoutKind kind() const { return kind_; }
  int num_ranks() const { return num_ranks_; }
  std::int64_t seq_length() const { return seq_length_; }
  /// Tokens of one rank.
  std::int64_t local_length() const { return seq_length_ / num_ranks_; }
  /// seq_length must be a multiple: P, or 2P for zigzag.
  std::int64_t unit() const;
  /// Position in the whole sequence of each token of `rank`; ascending.
  std::vector<std::int32_t> positions(int rank) const;
  /// The visible part of a causal step of queries of q_rank against keys of k_rank; at most 4
  /// segments, empty if the step is fully masked.
  std::vector<AttentionSegment> causal_segments(int q_rank, int k_rank) const;

 private:
  LayoutKind kind_;
  std::int64_t seq_length_;
  int num_ranks_;
};

}  // namespace ringtrain
