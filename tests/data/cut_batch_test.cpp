#include "ringtrain/data/cut_batch.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "data_fixture.h"
#include "numbered_source.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

struct CutCase {
  std::string name;
  LayoutKind layout;
  int num_shards;
  int sp;
};

class CutBatchTest : public ::testing::TestWithParam<CutCase> {};

// Every token of the batch is on exactly one rank, with its own target, mask and document.
TEST_P(CutBatchTest, PartsAreTheWhole) {
  const CutCase& c = GetParam();
  constexpr std::int64_t kRows = 4;
  constexpr std::int64_t kTokens = 48;
  const GlobalBatch batch = numbered_batch(3, kRows, kTokens);
  const SequenceLayout layout(c.layout, kTokens, c.sp);
  std::vector<int> seen(kRows * kTokens, 0);
  for (int shard = 0; shard < c.num_shards; ++shard) {
    for (int sp = 0; sp < c.sp; ++sp) {
      const LocalBatch local =
          cut_batch(batch, layout, shard, c.num_shards, sp,
                    {.loss_reduction = LossReduction::kToken, .documents = true});
      ASSERT_EQ(local.rows, kRows / c.num_shards);
      ASSERT_EQ(local.tokens, kTokens / c.sp);
      ASSERT_EQ(local.inputs.size(), static_cast<std::size_t>(local.rows * local.tokens));
      EXPECT_EQ(local.denominator, 96.0);  // 2 of 3 tokens, in 3 of 4 rows
      EXPECT_EQ(local.state_after, batch.state_after);
      EXPECT_EQ(local.metrics, batch.metrics);
      const auto positions = layout.positions(sp);
      for (std::size_t i = 0; i < local.inputs.size(); ++i) {
        // The input tells where it came from, whatever the layout says.
        const auto at = static_cast<std::size_t>(local.inputs[i] - 300000);
        ASSERT_EQ(at, static_cast<std::size_t>((shard * local.rows + i / local.tokens) * kTokens +
                                               positions[i % local.tokens]));
        ++seen[at];
        ASSERT_EQ(local.targets[i], batch.targets[at]);
        ASSERT_EQ(local.weights[i], batch.loss_masks[at]);
        ASSERT_EQ(local.document_starts[i], batch.document_starts[at]);
      }
    }
  }
  EXPECT_EQ(seen, std::vector<int>(kRows * kTokens, 1));
}

INSTANTIATE_TEST_SUITE_P(Layouts, CutBatchTest,
                         ::testing::Values(CutCase{"one_rank", LayoutKind::kContiguous, 1, 1},
                                           CutCase{"one_rank_zigzag", LayoutKind::kZigzag, 1, 1},
                                           CutCase{"rows_only", LayoutKind::kStriped, 4, 1},
                                           CutCase{"contiguous", LayoutKind::kContiguous, 2, 4},
                                           CutCase{"striped", LayoutKind::kStriped, 1, 4},
                                           CutCase{"striped_rows", LayoutKind::kStriped, 2, 3},
                                           CutCase{"zigzag", LayoutKind::kZigzag, 1, 4},
                                           CutCase{"zigzag_rows", LayoutKind::kZigzag, 4, 2}),
                         [](const auto& tested) { return tested.param.name; });

// Attention sees the tokens of the whole ulysses group, so it gets their documents.
TEST(CutBatch, DocumentsAreThoseOfTheUlyssesGroup) {
  const GlobalBatch batch = numbered_batch(1, 4, 48);
  const SequenceLayout layout(LayoutKind::kZigzag, 48, 4, /*ulysses_size=*/2);
  for (int sp = 0; sp < 4; ++sp) {
    const LocalBatch local = cut_batch(batch, layout, /*shard=*/1, 2, sp, {.documents = true});
    const auto positions = layout.group_positions(sp / 2);
    std::vector<std::int32_t> expected;
    for (const std::size_t row : {2, 3}) {
      for (const std::int32_t position : positions) {
        expected.push_back(batch.document_starts[row * 48 + static_cast<std::size_t>(position)]);
      }
    }
    EXPECT_EQ(local.inputs.size(), 2u * 12);
    EXPECT_EQ(local.document_starts, expected);
  }
}

TEST(CutBatch, SequenceReductionWeighsRowsEqually) {
  const GlobalBatch batch = numbered_batch(0, 4, 48);
  const SequenceLayout layout(LayoutKind::kZigzag, 48, 2);
  std::vector<double> row_sums(4, 0.0);
  for (int shard = 0; shard < 2; ++shard) {
    for (int sp = 0; sp < 2; ++sp) {
      const LocalBatch local =
          cut_batch(batch, layout, shard, 2, sp, {.loss_reduction = LossReduction::kSequence});
      EXPECT_EQ(local.denominator, 4.0);
      EXPECT_TRUE(local.document_starts.empty());
      for (std::size_t i = 0; i < local.weights.size(); ++i) {
        row_sums[static_cast<std::size_t>(shard) * 2 + i / 24] += local.weights[i];
      }
    }
  }
  // 32 valid tokens of 1/32 each; the row without one adds nothing and still counts.
  EXPECT_EQ(row_sums, (std::vector<double>{1.0, 0.0, 1.0, 1.0}));
}

TEST(CutBatch, BatchWithoutAValidTokenWeighsNothing) {
  GlobalBatch batch = numbered_batch(0, 2, 8);
  batch.loss_masks.assign(16, 0.0f);
  const SequenceLayout layout(LayoutKind::kContiguous, 8, 1);
  const LocalBatch tokens = cut_batch(batch, layout, 0, 1, 0, {});
  EXPECT_EQ(tokens.denominator, 0.0);
  EXPECT_EQ(tokens.weights, std::vector<float>(16, 0.0f));
  const LocalBatch rows =
      cut_batch(batch, layout, 0, 1, 0, {.loss_reduction = LossReduction::kSequence});
  EXPECT_EQ(rows.denominator, 2.0);
  EXPECT_EQ(rows.weights, std::vector<float>(16, 0.0f));
}

TEST(CutBatch, RefusesWhatCannotBeCut) {
  const GlobalBatch batch = numbered_batch(0, 4, 48);
  const SequenceLayout layout(LayoutKind::kContiguous, 48, 2);
  const std::string message =
      message_of<InvalidArgument>([&] { cut_batch(batch, layout, 0, 3, 0, {}); });
  EXPECT_NE(message.find("batch_size 4"), std::string::npos) << message;
  EXPECT_NE(message.find("dp x fsdp = 3"), std::string::npos) << message;
  EXPECT_THROW(cut_batch(batch, SequenceLayout(LayoutKind::kContiguous, 24, 2), 0, 2, 0, {}),
               InvalidArgument);
}

TEST(CutBatch, ChecksTokenIds) {
  GlobalBatch batch = numbered_batch(0, 1, 10);  // ids 0 to 10
  EXPECT_NO_THROW(check_token_ids(batch, 11));
  const std::string message = message_of<InvalidArgument>([&] { check_token_ids(batch, 10); });
  EXPECT_NE(message.find("token id 10"), std::string::npos) << message;
  batch.inputs[4] = -1;
  EXPECT_THROW(check_token_ids(batch, 11), InvalidArgument);
}

TEST(LossReduction, IsParsed) {
  EXPECT_EQ(parse_loss_reduction("token"), LossReduction::kToken);
  EXPECT_EQ(parse_loss_reduction("sequence"), LossReduction::kSequence);
  EXPECT_THROW(parse_loss_reduction("mean"), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain
