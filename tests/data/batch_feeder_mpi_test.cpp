#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "numbered_source.h"
#include "ringtrain/core/error.h"
#include "ringtrain/data/batch_feeder.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

// Meshes of the world's size that use every axis somewhere.
std::vector<MeshShape> shapes_of(int size) {
  std::vector<MeshShape> shapes = {
      {size, 1, 1, 1}, {1, size, 1, 1}, {1, 1, size, 1}, {1, 1, 1, size}};
  if (size == 4) shapes.push_back({2, 1, 1, 2});
  if (size == 8) shapes.insert(shapes.end(), {{1, 2, 2, 2}, {2, 1, 2, 2}});
  return shapes;
}

FeederSettings settings_of(const MeshShape& shape, std::int64_t seq_length) {
  return {.shape = shape,
          .layouts = {SequenceLayout(LayoutKind::kZigzag, seq_length, shape.sp)},
          .cut = {.loss_reduction = LossReduction::kToken, .documents = true}};
}

BatchFeeder::Open numbered(std::int64_t rows, std::int64_t seq_length, std::int64_t fails_at = -1) {
  return [=] {
    EXPECT_EQ(test_world().rank(), 0) << "the source is rank 0's alone";
    return std::make_unique<NumberedSource>(rows, seq_length, fails_at);
  };
}

LocalBatch expected_batch(std::int64_t number, std::int64_t rows, const FeederSettings& settings) {
  const MeshCoordinates at =
      mesh_coordinates(test_world().rank(), settings.shape, settings.mesh_order);
  const SequenceLayout& layout = settings.layouts.front();
  return cut_batch(numbered_batch(number, rows, layout.seq_length()), layout,
                   at.dp * settings.shape.fsdp + at.fsdp, settings.shape.num_batch_shards(), at.sp,
                   settings.cut);
}

void expect_same(const LocalBatch& actual, const LocalBatch& expected) {
  ASSERT_EQ(actual.rows, expected.rows);
  ASSERT_EQ(actual.tokens, expected.tokens);
  ASSERT_EQ(actual.inputs, expected.inputs);
  ASSERT_EQ(actual.targets, expected.targets);
  ASSERT_EQ(actual.weights, expected.weights);
  ASSERT_EQ(actual.document_starts, expected.document_starts);
  ASSERT_EQ(actual.denominator, expected.denominator);
  ASSERT_EQ(actual.state_after, expected.state_after);
  ASSERT_EQ(actual.metrics, expected.metrics);
}

TEST(BatchFeeder, EveryRankGetsItsPart) {
  World& world = test_world();
  for (const MeshShape& shape : shapes_of(world.size())) {
    for (const char* order : {"tp,sp,fsdp,dp", "dp,fsdp,sp,tp"}) {
      SCOPED_TRACE(shape.to_string() + " " + order);
      FeederSettings settings = settings_of(shape, 48);
      settings.mesh_order = order;
      BatchFeeder feeder(world, numbered(8, 48), settings);
      for (int i = 0; i < 12; ++i) {
        expect_same(feeder.next(), expected_batch(i, 8, settings));
        if (world.rank() == i % world.size()) {  // ranks need not keep step
          std::this_thread::sleep_for(std::chrono::milliseconds(3));
        }
      }
    }
  }
}

// Megabytes a rank: messages that no MPI buffers. Two feeders at once, as in evaluation.
TEST(BatchFeeder, LongBatchesOfTwoSources) {
  World& world = test_world();
  const FeederSettings train = settings_of({1, 1, 1, world.size()}, 65536);
  const FeederSettings eval = settings_of({1, world.size(), 1, 1}, 1024);
  const std::int64_t rows = 2 * world.size();
  BatchFeeder train_feeder(world, numbered(rows, 65536), train);
  BatchFeeder eval_feeder(world, numbered(rows, 1024), eval);
  for (int i = 0; i < 4; ++i) {
    expect_same(train_feeder.next(), expected_batch(i, rows, train));
    if (i % 2 == 1) expect_same(eval_feeder.next(), expected_batch(i / 2, rows, eval));
  }
}

TEST(BatchFeeder, StopsAtAnyTimeWithoutTrace) {
  World& world = test_world();
  const FeederSettings settings = settings_of({1, 1, 1, world.size()}, 4096);
  for (int steps = 0; steps < 6; ++steps) {
    BatchFeeder feeder(world, numbered(8, 4096), settings);
    for (int i = 0; i < steps; ++i) expect_same(feeder.next(), expected_batch(i, 8, settings));
    if (world.rank() == steps % world.size()) {  // a rank that comes late to the end
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
}

TEST(BatchFeeder, AnErrorOfTheSourceReachesEveryRank) {
  World& world = test_world();
  const FeederSettings settings = settings_of({1, world.size(), 1, 1}, 16);
  for (const int fails_at : {0, 3}) {
    BatchFeeder feeder(world, numbered(8, 16, fails_at), settings);
    for (int i = 0; i < fails_at; ++i) expect_same(feeder.next(), expected_batch(i, 8, settings));
    for (int again = 0; again < 2; ++again) {
      try {
        feeder.next();
        FAIL() << "no error";
      } catch (const IoError& error) {
        EXPECT_STREQ(error.what(), "the disk is on fire");
      }
    }
  }
}

TEST(BatchFeeder, AnErrorOfOpeningReachesEveryRank) {
  World& world = test_world();
  const auto open = []() -> std::unique_ptr<BatchSource> { throw InvalidArgument("no such path"); };
  EXPECT_THROW(BatchFeeder(world, open, settings_of({1, 1, 1, world.size()}, 48)), InvalidArgument);
  EXPECT_THROW(BatchFeeder(world, numbered(8, 48), settings_of({1, 1, 1, 2 * world.size()}, 48)),
               InvalidArgument);
}

TEST(BatchFeeder, RefusesBatchesThatDoNotFit) {
  World& world = test_world();
  FeederSettings settings = settings_of({world.size(), 1, 1, 1}, 16);
  {
    BatchFeeder feeder(world, numbered(2 * world.size(), 32), settings);
    EXPECT_THROW(feeder.next(), InvalidArgument);  // another sequence length
  }
  if (world.size() > 1) {
    BatchFeeder feeder(world, numbered(world.size() + 1, 16), settings);
    EXPECT_THROW(feeder.next(), InvalidArgument);  // rows over dp
  }
  settings.vocab_size = 16 * world.size() + 1;
  BatchFeeder feeder(world, numbered(world.size(), 16), settings);
  EXPECT_NO_THROW(feeder.next());
  EXPECT_THROW(feeder.next(), InvalidArgument);  // ids of batch 1 begin at 100000
}

// An exception on its way out must not wait for peers; here every rank has one.
TEST(BatchFeeder, UnwindingWaitsForNobody) {
  World& world = test_world();
  const FeederSettings settings = settings_of({1, 1, 1, world.size()}, 65536);
  const auto train = [&] {
    BatchFeeder feeder(world, numbered(8, 65536), settings);
    feeder.next();
    throw DeviceError("lost");
  };
  EXPECT_THROW(train(), DeviceError);
}

}  // namespace
}  // namespace ringtrain
