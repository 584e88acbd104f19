#include "ringtrain/parallel/attention_balance.h"

#include <algorithm>

namespace ringtrain {
namespace {

constexpr std::int64_t kKernelBlock = 128;  // tiles of the attention kernels are of about this size

/// Pairs of every query group (outer) with every key group (inner).
using PairCounts = std::vector<std::int64_t>;

/// Adds the pairs of one row. `starts` as in attention_balance, of this row or empty.
void count_row(const SequenceLayout& layout, const std::vector<std::int32_t>& positions, int group,
               std::span<const std::int32_t> starts, std::int64_t block, PairCounts& counts) {
  const std::int64_t length = layout.group_length();
  std::int64_t* of_group = counts.data() + std::int64_t{group} * layout.num_groups();
  for (std::int64_t begin = 0; begin < length; begin += block) {
    const std::int64_t end = std::min(begin + block, length);
    const std::int32_t first = positions[static_cast<std::size_t>(begin)];
    const std::int32_t last = positions[static_cast<std::size_t>(end - 1)];
    const std::int32_t lowest = starts.empty() ? 0 : starts[static_cast<std::size_t>(first)];
    for (int k = 0; k < layout.num_groups(); ++k) {
      const std::int64_t hidden = layout.tokens_before(k, lowest);
      const std::int64_t seen = layout.tokens_before(k, last + 1);
      if (seen <= hidden) continue;
      const std::int64_t up_to = std::min((seen + block - 1) / block * block, length);
      of_group[k] += (end - begin) * (up_to - hidden / block * block);
    }
  }
}

/// Adds up the steps of a ring: at step i, group q has the keys of group q - i.
void add_ring(const PairCounts& counts, int num_groups, double& longest, double& total) {
  for (int step = 0; step < num_groups; ++step) {
    std::int64_t most = 0;
    for (int q = 0; q < num_groups; ++q) {
      const int k = (q - step + num_groups) % num_groups;
      const std::int64_t pairs = counts[static_cast<std::size_t>(q * num_groups + k)];
      most = std::max(most, pairs);
      total += static_cast<double>(pairs);
    }
    longest += static_cast<double>(most);
  }
}

}  // namespace

AttentionBalance attention_balance(const SequenceLayout& layout,
                                   std::span<const std::int32_t> document_starts, int num_shards,
                                   std::int64_t block) {
  const int num_groups = layout.num_groups();
  const auto seq_length = static_cast<std::size_t>(layout.seq_length());
  const auto shards = static_cast<std::size_t>(num_shards);
  // Rows of one document are all alike: one a shard stands for them.
  const std::size_t rows =
      document_starts.empty() ? 1 : document_starts.size() / seq_length / shards;
  std::vector<std::vector<std::int32_t>> positions;
  for (int group = 0; group < num_groups; ++group) {
    positions.push_back(layout.group_positions(group));
  }
  AttentionBalance balance;
  double total = 0;
  for (std::size_t shard = 0; shard < shards; ++shard) {
    PairCounts counts(static_cast<std::size_t>(num_groups * num_groups), 0);
    for (std::size_t row = shard * rows; row < (shard + 1) * rows; ++row) {
      const auto starts = document_starts.empty()
                              ? document_starts
                              : document_starts.subspan(row * seq_length, seq_length);
      for (int group = 0; group < num_groups; ++group) {
        count_row(layout, positions[static_cast<std::size_t>(group)], group, starts, block, counts);
      }
    }
    double longest = 0;
    add_ring(counts, num_groups, longest, total);
    balance.longest = std::max(balance.longest, longest);
  }
  balance.even = total / (static_cast<double>(num_shards) * num_groups);
  return balance;
}

std::size_t fastest_layout(const std::vector<SequenceLayout>& layouts,
                           std::span<const std::int32_t> document_starts, int num_shards) {
  if (layouts.size() == 1) return 0;
  std::vector<double> times;
  for (const SequenceLayout& layout : layouts) {
    times.push_back(attention_balance(layout, document_starts, num_shards, kKernelBlock).longest);
  }
  return static_cast<std::size_t>(std::min_element(times.begin(), times.end()) - times.begin());
}

}  // namespace ringtrain
