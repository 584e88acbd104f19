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
  int units;  // seq_length in units
};

std::string name_of_case(const ::testing::TestParamInfo<LayoutCase>& info) {
  const std::vector<std::string> kinds{"contiguous", "striped", "zigzag"};
  return kinds[static_cast<std::size_t>(info.param.kind)] + "_" +
         std::to_string(info.param.num_ranks) + "_ranks_" + std::to_string(info.param.units) +
         "_units";
}

class SequenceLayoutTest : public ::testing::TestWithParam<LayoutCase> {
 protected:
  static SequenceLayout layout() {
    const LayoutCase& c = GetParam();
    const SequenceLayout smallest(c.kind, 2 * std::int64_t{c.num_ranks}, c.num_ranks);
    return {c.kind, smallest.unit() * c.units, c.num_ranks};
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

TEST_P(SequenceLayoutTest, SegmentsAreTheCausalMaskOfThePositions) {
  const SequenceLayout cut = layout();
  const std::int64_t local = cut.local_length();
  for (int q_rank = 0; q_rank < cut.num_ranks(); ++q_rank) {
    const auto q_positions = cut.positions(q_rank);
    for (int k_rank = 0; k_rank < cut.num_ranks(); ++k_rank) {
      const auto k_positions = cut.positions(k_rank);
      const auto segments = cut.causal_segments(q_rank, k_rank);
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
              << "query " << i << " of rank " << q_rank << ", key " << j << " of rank " << k_rank;
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
      for (const int units : {1, 2, 5}) cases.push_back({kind, num_ranks, units});
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

TEST(SequenceLayout, ZigzagGivesEveryRankAndStepTheSameWork) {
  const SequenceLayout cut(LayoutKind::kZigzag, 64, 4);
  for (int q_rank = 0; q_rank < 4; ++q_rank) {
    for (int k_rank = 0; k_rank < 4; ++k_rank) {
      if (q_rank == k_rank) continue;
      const auto segments = cut.causal_segments(q_rank, k_rank);
      ASSERT_EQ(segments.size(), 1u);
      EXPECT_EQ(segments[0].qn * segments[0].kn, 16 * 16 / 2);
      EXPECT_GE(segments[0].shift, segments[0].kn);
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

TEST(SequenceLayout, ParsesItsNames) {
  EXPECT_EQ(SequenceLayout::parse("contiguous"), LayoutKind::kContiguous);
  EXPECT_EQ(SequenceLayout::parse("striped"), LayoutKind::kStriped);
  EXPECT_EQ(SequenceLayout::parse("zigzag"), LayoutKind::kZigzag);
  EXPECT_EQ(SequenceLayout::parse("auto"), LayoutKind::kZigzag);
  EXPECT_THROW(SequenceLayout::parse("zig-zag"), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain
