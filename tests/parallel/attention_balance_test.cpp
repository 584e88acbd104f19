#include "ringtrain/parallel/attention_balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/host_tensor.h"

namespace ringtrain {
namespace {

constexpr LayoutKind kKinds[] = {LayoutKind::kContiguous, LayoutKind::kStriped,
                                 LayoutKind::kZigzag};

/// Document starts of rows in which a token begins a document with probability 1 / mean_length.
std::vector<std::int32_t> random_documents(std::int64_t rows, std::int64_t seq_length,
                                           std::int32_t mean_length, std::uint64_t seed) {
  std::vector<std::int32_t> starts = random_integers(rows * seq_length, 0, mean_length, seed);
  for (std::int64_t i = 0; i < rows * seq_length; ++i) {
    const std::int64_t position = i % seq_length;
    const bool begins = position == 0 || starts[static_cast<std::size_t>(i)] == 0;
    starts[static_cast<std::size_t>(i)] =
        begins ? static_cast<std::int32_t>(position) : starts[static_cast<std::size_t>(i - 1)];
  }
  return starts;
}

/// The definition, pair by pair.
AttentionBalance counted(const SequenceLayout& layout, const std::vector<std::int32_t>& starts,
                         std::int64_t shards) {
  const std::int64_t length = layout.seq_length();
  const auto rows = static_cast<std::int64_t>(starts.size()) / length / shards;
  const int num_groups = layout.num_groups();
  AttentionBalance balance;
  for (std::int64_t shard = 0; shard < shards; ++shard) {
    double longest = 0;
    for (int step = 0; step < num_groups; ++step) {
      double most = 0;
      for (int q = 0; q < num_groups; ++q) {
        double pairs = 0;
        for (std::int64_t row = shard * rows; row < (shard + 1) * rows; ++row) {
          for (const auto query : layout.group_positions(q)) {
            const auto start = starts[static_cast<std::size_t>(row * length + query)];
            for (const auto key : layout.group_positions((q - step + num_groups) % num_groups)) {
              pairs += key <= query && key >= start ? 1 : 0;
            }
          }
        }
        most = std::max(most, pairs);
        balance.even += pairs / static_cast<double>(shards * num_groups);
      }
      longest += most;
    }
    balance.longest = std::max(balance.longest, longest);
  }
  return balance;
}

TEST(AttentionBalance, CountsVisiblePairs) {
  constexpr std::int64_t kLength = 48, kRows = 4;
  const std::vector<std::int32_t> documents = random_documents(kRows, kLength, 9, 3);
  const std::vector<std::int32_t> none(static_cast<std::size_t>(kRows * kLength), 0);
  for (const LayoutKind kind : kKinds) {
    for (const auto& [ranks, ulysses] : {std::pair{1, 1}, {4, 1}, {3, 1}, {4, 2}, {4, 4}}) {
      const SequenceLayout layout(kind, kLength, ranks, ulysses);
      for (const int shards : {1, 2}) {
        for (const auto& starts : {documents, none}) {
          const AttentionBalance expected = counted(layout, starts, shards);
          const AttentionBalance actual = attention_balance(layout, starts, shards);
          EXPECT_EQ(actual.longest, expected.longest);
          EXPECT_NEAR(actual.even, expected.even, 1e-9 * expected.even);
          EXPECT_GE(actual.imbalance(), 1 - 1e-12);
        }
      }
      EXPECT_NEAR(attention_balance(layout, {}, 2).imbalance(),
                  attention_balance(layout, none, 2).imbalance(), 1e-12);
    }
  }
}

TEST(AttentionBalance, OfCausalSequences) {
  constexpr std::int64_t kLength = 65536;
  for (const int ranks : {2, 8, 64}) {
    const auto imbalance = [&](LayoutKind kind) {
      return attention_balance({kind, kLength, ranks}, {}, 1).imbalance();
    };
    EXPECT_LE(imbalance(LayoutKind::kZigzag), 1.01);
    EXPECT_LE(imbalance(LayoutKind::kStriped), 1.01);
    // The last rank has whole blocks to attend to in every step but its own: (P - 1/2) / (P / 2).
    EXPECT_NEAR(imbalance(LayoutKind::kContiguous), 2 - 1.0 / ranks, 0.01);
  }
}

TEST(AttentionBalance, BlocksCountWhole) {
  const SequenceLayout one(LayoutKind::kContiguous, 8, 1);
  EXPECT_EQ(attention_balance(one, {}, 1).longest, 36);
  EXPECT_EQ(attention_balance(one, {}, 1, 4).longest, 3 * 16);  // of four squares, three
  EXPECT_EQ(attention_balance(one, {}, 1, 100).longest, 64);
  const std::vector<std::int32_t> starts{0, 0, 0, 0, 4, 4, 4, 4};
  EXPECT_EQ(attention_balance(one, starts, 1, 4).longest, 2 * 16);
}

// One long document at the end of a row is all with the two or three ranks that hold its chunks,
// and spread evenly by stripes. Short ones everywhere are even both ways, but in stripes every
// block is cut by the mask.
TEST(FastestLayout, DependsOnTheDocuments) {
  constexpr std::int64_t kLength = 32768;
  const std::vector<SequenceLayout> layouts = sequence_layouts("auto", true, kLength, 4);
  ASSERT_EQ(layouts.size(), 2u);
  std::vector<std::int32_t> late(static_cast<std::size_t>(kLength));
  std::iota(late.begin(), late.end(), 0);
  std::fill(late.begin() + kLength * 3 / 4, late.end(), kLength * 3 / 4);
  EXPECT_EQ(layouts[fastest_layout(layouts, late, 1)].kind(), LayoutKind::kStriped);
  EXPECT_GT(attention_balance(layouts[0], late, 1).imbalance(), 1.2);
  EXPECT_LT(attention_balance(layouts[1], late, 1).imbalance(), 1.01);

  const std::vector<std::int32_t> whole(static_cast<std::size_t>(kLength), 0);
  EXPECT_EQ(layouts[fastest_layout(layouts, whole, 1)].kind(), LayoutKind::kZigzag);
  const std::vector<std::int32_t> crumbs = random_documents(1, kLength, 64, 5);
  EXPECT_EQ(layouts[fastest_layout(layouts, crumbs, 1)].kind(), LayoutKind::kZigzag);
}

// Rows are cut over shards: one shard with the long documents makes the others wait.
TEST(AttentionBalance, ShardsWaitForEachOther) {
  const SequenceLayout layout(LayoutKind::kZigzag, 64, 2);
  std::vector<std::int32_t> starts(128, 0);
  std::iota(starts.begin() + 64, starts.end(), 0);  // the second row: documents of one token
  const double pairs = 64 * 65 / 2 + 64;
  EXPECT_NEAR(attention_balance(layout, starts, 1).imbalance(), 1, 0.05);
  const AttentionBalance cut = attention_balance(layout, starts, 2);
  EXPECT_EQ(cut.even, pairs / 4);
  EXPECT_GT(cut.imbalance(), 1.9);
}

}  // namespace
}  // namespace ringtrain
