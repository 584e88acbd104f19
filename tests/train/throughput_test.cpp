#include "ringtrain/train/throughput.h"

#include <gtest/gtest.h>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

TEST(ThroughputTest, IsZeroBeforeTheFirstInterval) {
  const Throughput throughput(3);
  EXPECT_EQ(throughput.tokens_per_s(), 0);
  EXPECT_EQ(throughput.seconds_per_step(), 0);
}

TEST(ThroughputTest, WeighsIntervalsByTheirLength) {
  Throughput throughput(3);
  throughput.add(1, 100, 1.0);
  throughput.add(3, 300, 1.0);
  EXPECT_EQ(throughput.tokens_per_s(), 200);
  EXPECT_EQ(throughput.seconds_per_step(), 0.5);
}

TEST(ThroughputTest, ForgetsIntervalsBeyondTheWindow) {
  Throughput throughput(2);
  throughput.add(1, 1000000, 1.0);
  throughput.add(1, 10, 1.0);
  throughput.add(1, 30, 1.0);
  EXPECT_EQ(throughput.tokens_per_s(), 20);
  EXPECT_THROW(Throughput(0), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain
