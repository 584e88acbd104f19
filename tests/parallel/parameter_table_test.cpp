#include "ringtrain/parallel/parameter_table.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

// A vocabulary of 11 that no tp divides, a layer with three kinds of split, and an odd norm.
ParameterTable make_table(int tp_rank, int tp_size, int num_shards) {
  ParameterTable table(tp_rank, tp_size, num_shards);
  table.begin_unit("embedding");
  table.add("embed", {11, 6}, TpSplit::kRows);
  table.begin_unit("layer 0");
  table.add("norm", {7}, TpSplit::kReplicated, /*is_norm=*/true);
  table.add("q", {8, 6}, TpSplit::kRows);
  table.add("k", {4, 6}, TpSplit::kRows, /*is_norm=*/false, /*follows=*/true);
  table.add("o", {6, 8}, TpSplit::kColumns);
  table.finish();
  return table;
}

TEST(ParameterTableTest, LaysOutSegments) {
  const ParameterTable table = make_table(/*tp_rank=*/1, /*tp_size=*/2, /*num_shards=*/3);
  ASSERT_EQ(table.units().size(), 2u);
  EXPECT_EQ(table.num_tensors(), 5);
  const ParameterUnit& embedding = table.units()[0];
  EXPECT_EQ(embedding.name, "embedding");
  EXPECT_EQ(embedding.segment("embed").local_shape, Shape({6, 6}));
  const ParameterUnit& layer = table.units()[1];
  EXPECT_EQ(layer.segment("norm").offset, 0);
  EXPECT_TRUE(layer.segment("norm").is_norm);
  EXPECT_EQ(layer.segment("q").offset, 128);
  EXPECT_EQ(layer.segment("q").local_shape, Shape({4, 6}));
  EXPECT_EQ(layer.segment("k").offset, 128 + 24) << "follows q without a gap";
  EXPECT_EQ(layer.segment("o").offset, 256);
  EXPECT_EQ(layer.segment("o").local_shape, Shape({6, 4}));
  EXPECT_EQ(layer.segment("o").index, 4);
  EXPECT_EQ(layer.num_elements % 3, 0);
  EXPECT_GE(layer.num_elements, 256 + 24);
  EXPECT_EQ(table.shard_elements(layer) * 3, layer.num_elements);
  EXPECT_EQ(table.shard_elements(layer) % 128, 0);
  EXPECT_THROW(layer.segment("embed"), InvalidArgument);
}

TEST(ParameterTableTest, FinishTwiceChangesNothing) {
  ParameterTable table = make_table(0, 1, 4);
  const std::int64_t before = table.units()[1].num_elements;
  table.finish();
  EXPECT_EQ(table.units()[1].num_elements, before);
}

TEST(ParameterTableTest, RefusesColumnsThatTpDoesNotDivide) {
  ParameterTable table(0, 3, 1);
  try {
    table.add("model.layers.0.mlp.down_proj.weight", {6, 8}, TpSplit::kColumns);
    FAIL() << "8 columns over 3 ranks were accepted";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("down_proj"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("tp=3"), std::string::npos) << error.what();
  }
}

TEST(ParameterTableTest, SlicesLeaveOutPadding) {
  const ParameterTable table = make_table(0, 4, 1);
  const Segment& embed = table.units()[0].segment("embed");
  EXPECT_EQ(embed.local_shape, Shape({3, 6}));
  EXPECT_EQ(tp_slice(embed, 0, 4).first, 0);
  EXPECT_EQ(tp_slice(embed, 3, 4).first, 9);
  EXPECT_EQ(tp_slice(embed, 3, 4).count, 2);
  const Segment& norm = table.units()[1].segment("norm");
  EXPECT_EQ(tp_slice(norm, 2, 4).count, 7);
  const Segment& o = table.units()[1].segment("o");
  EXPECT_EQ(tp_slice(o, 2, 4).first, 4);
  EXPECT_EQ(tp_slice(o, 2, 4).count, 2);
}

TEST(ParameterTableTest, MoreRanksThanRowsLeaveSomeEmpty) {
  ParameterTable table(7, 8, 1);
  table.begin_unit("embedding");
  table.add("embed", {9, 2}, TpSplit::kRows);  // two rows a rank: ranks 5, 6, 7 hold padding only
  table.finish();
  const Segment& embed = table.units()[0].segments[0];
  EXPECT_EQ(tp_slice(embed, 4, 8).count, 1);
  EXPECT_EQ(tp_slice(embed, 5, 8).count, 0);
  EXPECT_EQ(tp_slice(embed, 7, 8).count, 0);
  EXPECT_TRUE(segment_runs(table, table.units()[0], 0).empty());
}

// Every element of every tensor must be in exactly one run per tp slice, on any mesh.
TEST(ParameterTableTest, RunsCoverEveryElementOnce) {
  for (const int tp_size : {1, 2, 4}) {
    for (const int num_shards : {1, 2, 3, 8}) {
      std::map<std::string, std::multiset<std::int64_t>> rows_seen;
      for (int tp_rank = 0; tp_rank < tp_size; ++tp_rank) {
        const ParameterTable table = make_table(tp_rank, tp_size, num_shards);
        for (const ParameterUnit& unit : table.units()) {
          std::map<std::string, std::int64_t> next;
          for (int shard = 0; shard < num_shards; ++shard) {
            std::int64_t last_end = 0;
            for (const SegmentRun& run : segment_runs(table, unit, shard)) {
              EXPECT_GE(run.shard_begin, last_end);
              last_end = run.shard_begin + run.count;
              EXPECT_LE(last_end, table.shard_elements(unit));
              EXPECT_EQ(run.segment_begin, next[run.segment->name]) << "runs continue";
              next[run.segment->name] += run.count;
              EXPECT_EQ(shard * table.shard_elements(unit) + run.shard_begin,
                        run.segment->offset + run.segment_begin);
            }
          }
          for (const Segment& segment : unit.segments) {
            const std::int64_t expected =
                segment.split == TpSplit::kRows
                    ? tp_slice(segment, tp_rank, tp_size).count * segment.shape[1]
                    : segment.num_elements();
            EXPECT_EQ(next[segment.name], expected) << segment.name;
            if (segment.split == TpSplit::kRows) {
              const TpSlice slice = tp_slice(segment, tp_rank, tp_size);
              for (std::int64_t i = 0; i < slice.count; ++i) {
                rows_seen[segment.name].insert(slice.first + i);
              }
            }
          }
        }
      }
      EXPECT_EQ(rows_seen["embed"].size(), 11u) << "tp " << tp_size;
      EXPECT_EQ(std::set(rows_seen["embed"].begin(), rows_seen["embed"].end()).size(), 11u);
    }
  }
}

}  // namespace
}  // namespace ringtrain
