#include "ringtrain/parallel/sequence_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

struct LayoutCase {
  LayoutKind kind;
  int num_ranks;
  int ulysses;
  int units;  // seq_length in units
};

std::string name_of_case(const ::testing::TestParamInfo<LayoutCase>& info) {
  const std::vector<std::string> kinds{"contiguous", "striped", "zigzag"};
  return kinds[static_cast<std::size_t>(info.param.kind)] + "_" +
         std::to_string(info.param.num_ranks) + "_ranks_by_" + std::to_string(info.param.ulysses) +
         "_" + std::to_string(info.param.units) + "_units";
}

class SequenceLayoutTest : public ::testing::TestWithParam<LayoutCase> {
 protected:
  static SequenceLayout layout() {
    const LayoutCase& c = GetParam();
    const SequenceLayout small(c.kind, 2 * std::int64_t{c.num_ranks}, c.num_ranks, c.ulysses);
    return {c.kind, small.unit() * c.units, c.num_ranks, c.ulysses};
  }
};

TEST_P(SequenceLayoutTest, PositionsAreAPartitionAndAscend) {
  const SequenceLayout cut = layout();
  std::vector<int> owners(static_cast<std::size_t>(cut.seq_length()), 0);
  for (int rank = 0; rank < cut.num_ranks(); ++rank) {
    const auto positions = cut.positions(rank);
    ASSERT_EQ(static_cast<std::int64_t>(positions.size()), cut.local_length());
    EXPECT_TRUE(std::is_sorted(positions.begin(), positions.end()));
    for (const std::int32_t position : positions) {
      ASSERT_GE(position, 0);
      ASSERT_LT(position, cut.seq_length());
      ++owners[static_cast<std::size_t>(position)];
    }
  }
  EXPECT_EQ(owners, std::vector<int>(owners.size(), 1));
}

TEST_P(SequenceLayoutTest, AGroupHoldsTheTokensOfItsRanksInOrder) {
  const SequenceLayout cut = layout();
  for (int group = 0; group < cut.num_groups(); ++group) {
    std::vector<std::int32_t> joined;
    for (int rank = 0; rank < cut.num_ranks(); ++rank) {
      if (cut.group_of(rank) != group) continue;
      const auto positions = cut.positions(rank);
      joined.insert(joined.end(), positions.begin(), positions.end());
    }
    EXPECT_EQ(joined, cut.group_positions(group));
    EXPECT_TRUE(std::is_sorted(joined.begin(), joined.end()));
    for (std::int64_t position = 0; position <= cut.seq_length(); ++position) {
      EXPECT_EQ(cut.tokens_before(group, position),
                std::lower_bound(joined.begin(), joined.end(), position) - joined.begin());
    }
  }
}

TEST_P(SequenceLayoutTest, SegmentsAreTheCausalMaskOfThePositions) {
  const SequenceLayout cut = layout();
  const std::int64_t local = cut.group_length();
  for (int q_group = 0; q_group < cut.num_groups(); ++q_group) {
    const auto q_positions = cut.group_positions(q_group);
    for (int k_group = 0; k_group < cut.num_groups(); ++k_group) {
      const auto k_positions = cut.group_positions(k_group);
      const auto segments = cut.causal_segments(q_group, k_group);
      ASSERT_LE(segments.size(), 4u);
      std::vector<int> seen(static_cast<std::size_t>(local * local), 0);
      for (const AttentionSegment& s : segments) {
        ASSERT_TRUE(s.qn > 0 && s.kn > 0) << "an empty segment";
        ASSERT_TRUE(s.q0 >= 0 && s.k0 >= 0 && s.q0 + s.qn <= local && s.k0 + s.kn <= local);
        for (std::int64_t i = 0; i < s.qn; ++i) {
          for (std::int64_t j = 0; j < s.kn && j <= i + s.shift; ++j) {
            ++seen[static_cast<std::size_t>((s.q0 + i) * local + s.k0 + j)];
          }
        }
      }
      bool any = false;
      for (std::int64_t i = 0; i < local; ++i) {
        for (std::int64_t j = 0; j < local; ++j) {
          const bool visible =
              k_positions[static_cast<std::size_t>(j)] <= q_positions[static_cast<std::size_t>(i)];
          any = any || visible;
          ASSERT_EQ(seen[static_cast<std::size_t>(i * local + j)], visible ? 1 : 0)
              << "query " << i << " of group " << q_group << ", key " << j << " of group "
              << k_group;
        }
      }
      EXPECT_EQ(segments.empty(), !any);
    }
  }
}

std::vector<LayoutCase> all_cases() {
  std::vector<LayoutCase> cases;
  for (const auto kind : {LayoutKind::kContiguous, LayoutKind::kStriped, LayoutKind::kZigzag}) {
    for (const int num_ranks : {1, 2, 3, 4, 8}) {
      for (int ulysses = 1; ulysses <= num_ranks; ++ulysses) {
        if (num_ranks % ulysses != 0) continue;
        for (const int units : {1, 2, 5}) cases.push_back({kind, num_ranks, ulysses, units});
      }
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Layouts, SequenceLayoutTest, ::testing::ValuesIn(all_cases()),
                         name_of_case);

TEST(SequenceLayout, OneRankIsTheIdentity) {
  for (const auto kind : {LayoutKind::kContiguous, LayoutKind::kStriped, LayoutKind::kZigzag}) {
    const SequenceLayout cut(kind, 5, 1);
    EXPECT_EQ(cut.positions(0), (std::vector<std::int32_t>{0, 1, 2, 3, 4}));
    EXPECT_EQ(cut.causal_segments(0, 0), (std::vector<AttentionSegment>{{0, 5, 0, 5, 0}}));
  }
}

/// Pairs of queries and keys in a segment.
double pairs_in(const AttentionSegment& segment) {
  double pairs = 0;
  for (std::int64_t i = 0; i < segment.qn; ++i) {
    pairs += static_cast<double>(std::clamp<std::int64_t>(i + segment.shift + 1, 0, segment.kn));
  }
  return pairs;
}

// Within 1 % of each other: the diagonal is all that differs.
TEST(SequenceLayout, ZigzagAndStripedGiveEveryRankAndStepTheSameWork) {
  for (const LayoutKind kind : {LayoutKind::kZigzag, LayoutKind::kStriped}) {
    for (const int ranks : {2, 4, 8, 64}) {
      for (const int ulysses : {1, 2}) {
        const SequenceLayout cut(kind, std::int64_t{1024} * ranks, ranks, ulysses);
        const auto length = static_cast<double>(cut.seq_length());
        const double mean = length * (length + 1) / 2 / cut.num_groups() / cut.num_groups();
        for (int q_group = 0; q_group < cut.num_groups(); ++q_group) {
          for (int k_group = 0; k_group < cut.num_groups(); ++k_group) {
            double pairs = 0;
            for (const AttentionSegment& segment : cut.causal_segments(q_group, k_group)) {
              pairs += pairs_in(segment);
            }
            EXPECT_NEAR(pairs, mean, 0.01 * mean) << q_group << " of " << k_group;
          }
        }
      }
    }
  }
}

TEST(SequenceLayout, IllegalLengthNamesTheNearestLegalOnes) {
  try {
    const SequenceLayout cut(LayoutKind::kZigzag, 1001, 4);
    FAIL() << "1001 is no multiple of 8";
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "seq_length 1001 is not a positive multiple of 8, which --sp_layout=zigzag with "
                 "sp=4 needs; the nearest legal length is 1000 or 1008");
  }
  EXPECT_THROW(SequenceLayout(LayoutKind::kStriped, 3, 4), InvalidArgument);
  EXPECT_THROW(SequenceLayout(LayoutKind::kContiguous, 0, 4), InvalidArgument);
  EXPECT_THROW(SequenceLayout(LayoutKind::kContiguous, -4, 4), InvalidArgument);
  EXPECT_THROW(SequenceLayout(LayoutKind::kContiguous, std::int64_t{1} << 31, 4), InvalidArgument);
  EXPECT_NO_THROW(SequenceLayout(LayoutKind::kContiguous, 12, 4));
  EXPECT_THROW(SequenceLayout(LayoutKind::kZigzag, 12, 4), InvalidArgument);
}

TEST(SequenceLayout, UnitsOfUlyssesGroups) {
  const auto unit = [](LayoutKind kind, int num_ranks, int ulysses) {
    return SequenceLayout(kind, 48, num_ranks, ulysses).unit();
  };
  EXPECT_EQ(unit(LayoutKind::kZigzag, 8, 1), 16);
  EXPECT_EQ(unit(LayoutKind::kZigzag, 8, 2), 8);  // halves of a zigzag are a rank's parts
  EXPECT_EQ(unit(LayoutKind::kZigzag, 6, 3), 12);
  EXPECT_EQ(unit(LayoutKind::kZigzag, 8, 8), 8);
  EXPECT_EQ(unit(LayoutKind::kStriped, 6, 3), 6);
  EXPECT_THROW(SequenceLayout(LayoutKind::kZigzag, 48, 4, 3), InvalidArgument);
}

TEST(SequenceLayout, AutoIsZigzagWhereTheLengthAllowsIt) {
  using Kinds = std::vector<LayoutKind>;
  const auto kinds = [](std::string_view name, bool documents, std::int64_t seq_length,
                        int num_ranks, int ulysses = 1) {
    Kinds found;
    for (const auto& layout : sequence_layouts(name, documents, seq_length, num_ranks, ulysses)) {
      found.push_back(layout.kind());
    }
    return found;
  };
  EXPECT_EQ(kinds("auto", false, 16, 4), Kinds{LayoutKind::kZigzag});
  EXPECT_EQ(kinds("auto", false, 12, 4), Kinds{LayoutKind::kStriped});
  EXPECT_EQ(kinds("auto", true, 16, 4), (Kinds{LayoutKind::kZigzag, LayoutKind::kStriped}));
  EXPECT_EQ(kinds("auto", true, 12, 4), Kinds{LayoutKind::kStriped});
  EXPECT_EQ(kinds("auto", true, 12, 4, 2), (Kinds{LayoutKind::kZigzag, LayoutKind::kStriped}));
  EXPECT_EQ(kinds("auto", true, 12, 4, 4), Kinds{LayoutKind::kZigzag});
  EXPECT_EQ(kinds("auto", true, 5, 1), Kinds{LayoutKind::kZigzag});
  EXPECT_EQ(kinds("contiguous", true, 16, 4), Kinds{LayoutKind::kContiguous});
  EXPECT_THROW(kinds("auto", false, 10, 4), InvalidArgument);
  EXPECT_THROW(kinds("zag", false, 16, 4), InvalidArgument);
}

TEST(SequenceLayout, ParsesItsNames) {
  EXPECT_EQ(SequenceLayout::parse("contiguous"), LayoutKind::kContiguous);
  EXPECT_EQ(SequenceLayout::parse("striped"), LayoutKind::kStriped);
  EXPECT_EQ(SequenceLayout::parse("zigzag"), LayoutKind::kZigzag);
  EXPECT_THROW(SequenceLayout::parse("zig-zag"), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain
