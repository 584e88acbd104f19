#include "ringtrain/parallel/tensor_ranges.h"

#include <gtest/gtest.h>

namespace ringtrain {
namespace {

using Ranges = std::vector<TensorRange>;
using Copies = std::vector<RangeCopy>;

TEST(TensorRangesTest, ReplicatedPiecesAreOneRange) {
  EXPECT_EQ(tensor_ranges({7}, TpSplit::kReplicated, {0, 7}, 2, 4), (Ranges{{2, 0, 4}}));
}

TEST(TensorRangesTest, RowSlicesAreOneRange) {
  EXPECT_EQ(tensor_ranges({8, 6}, TpSplit::kRows, {4, 2}, 3, 7), (Ranges{{4 * 6 + 3, 0, 7}}));
}

TEST(TensorRangesTest, ColumnSlicesAreOneRangeARow) {
  // Columns 2 and 3 of a [3, 6] tensor, without the first and the last element.
  EXPECT_EQ(tensor_ranges({3, 6}, TpSplit::kColumns, {2, 2}, 1, 4),
            (Ranges{{3, 0, 1}, {8, 1, 2}, {14, 3, 1}}));
}

TEST(TensorRangesTest, AllColumnsAreOneRange) {
  EXPECT_EQ(tensor_ranges({3, 6}, TpSplit::kColumns, {0, 6}, 4, 9), (Ranges{{4, 0, 9}}));
}

TEST(TensorRangesTest, NothingIsNoRange) {
  EXPECT_TRUE(tensor_ranges({3, 6}, TpSplit::kRows, {3, 0}, 0, 0).empty());
}

TEST(TensorRangesTest, OverlapFindsWhatBothHave) {
  EXPECT_EQ(overlap({{0, 0, 10}}, {{4, 0, 3}, {9, 3, 5}}), (Copies{{4, 0, 3}, {9, 3, 1}}));
  EXPECT_EQ(overlap({{0, 0, 4}}, {{4, 0, 3}}), Copies{});
  EXPECT_EQ(overlap({}, {{4, 0, 3}}), Copies{});
}

TEST(TensorRangesTest, OverlapJoinsWhatContinues) {
  const Ranges columns = tensor_ranges({3, 6}, TpSplit::kColumns, {2, 2}, 0, 6);
  EXPECT_EQ(overlap(columns, columns), (Copies{{0, 0, 6}}));
}

}  // namespace
}  // namespace ringtrain
