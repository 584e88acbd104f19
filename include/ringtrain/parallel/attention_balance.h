#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ringtrain/parallel/sequence_layout.h"

namespace ringtrain {

/// How evenly a layout spreads the attention of a batch. Work is counted in (query, key) pairs.
struct AttentionBalance {
  /// The batch shard that takes longest: the sum over its ring's steps of the most that a member
  /// does, for whom the others wait.
  double longest = 0;
  /// What `longest` would be if the same work were spread evenly over all members and steps.
  double even = 0;

  /// At least 1: attention takes so many times as long as it need.
  double imbalance() const { return even > 0 ? longest / even : 1; }
};

/// `document_starts` [rows, seq_length] is where each token's document begins in its row, ascending
/// (GlobalBatch::document_starts), the rows cut evenly over `num_shards`; empty for one document a
/// row. Pairs count in squares of `block` queries and keys of a step, whole where one pair of them
/// is visible; with 1 the visible pairs count.
AttentionBalance attention_balance(const SequenceLayout& layout,
                                   std::span<const std::int32_t> document_starts, int num_shards,
                                   std::int64_t block = 1);

/// Which of `layouts` takes the least time for a batch, the first among equals: the one with the
/// least AttentionBalance::longest in blocks as kernels compute them. Arguments as above.
std::size_t fastest_layout(const std::vector<SequenceLayout>& layouts,
                           std::span<const std::int32_t> document_starts, int num_shards);

}  // namespace ringtrain
