#include "ringtrain/core/cpu_stream.h"

#include <gtest/gtest.h>

#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

TEST(CpuStreamTest, CompletesInOrderAndOnce) {
  std::vector<int> finished;
  CpuStream stream;
  for (int i = 0; i < 3; ++i) stream.defer([&finished, i] { finished.push_back(i); });
  EXPECT_TRUE(finished.empty());
  EXPECT_FALSE(stream.idle());
  stream.complete();
  stream.synchronise();
  EXPECT_EQ(finished, (std::vector<int>{0, 1, 2}));
  EXPECT_TRUE(stream.idle());
}

TEST(CpuStreamTest, WaitCompletesWhatTheEventMarksAndNoMore) {
  std::vector<int> finished;
  CpuStream ring;
  CpuStream compute;
  CpuEvent event;
  ring.defer([&] { finished.push_back(0); });
  ring.record(event);
  ring.defer([&] { finished.push_back(1); });
  compute.wait(event);
  EXPECT_EQ(finished, (std::vector<int>{0}));
  compute.wait(event);
  ring.complete();  // shares operation 0 with the event
  EXPECT_EQ(finished, (std::vector<int>{0, 1}));
}

TEST(CpuStreamTest, HostWaitsForAnEvent) {
  int finished = 0;
  CpuStream stream;
  CpuEvent event;
  event.synchronise();  // never recorded: complete
  stream.defer([&] { ++finished; });
  stream.record(event);
  event.synchronise();
  event.synchronise();
  EXPECT_EQ(finished, 1);
  EXPECT_TRUE(stream.idle());
}

TEST(CpuStreamTest, LaterRecordReplacesTheMark) {
  int finished = 0;
  CpuStream ring;
  CpuStream compute;
  CpuEvent event;
  compute.wait(event);  // never recorded: complete
  ring.defer([&] { ++finished; });
  ring.record(event);
  compute.record(event);  // nothing is pending on `compute`
  compute.wait(event);
  EXPECT_EQ(finished, 0);
}

TEST(CpuStreamTest, FailureIsReportedOnce) {
  int finished = 0;
  CpuStream stream;
  stream.defer([] { throw DeviceError("peer lost"); });
  stream.defer([&] { ++finished; });
  EXPECT_THROW(stream.complete(), DeviceError);
  EXPECT_NO_THROW(stream.complete());
  EXPECT_EQ(finished, 1);
}

TEST(CpuStreamTest, RefusesStreamsAndEventsOfOtherDevices) {
  const auto meta = make_meta_device();
  const auto meta_stream = meta->make_stream(StreamPriority::kNormal);
  const auto meta_event = meta->make_event();
  CpuStream stream;
  EXPECT_THROW(CpuStream::of(*meta_stream), InvalidArgument);
  EXPECT_THROW(stream.record(*meta_event), InvalidArgument);
  EXPECT_THROW(stream.wait(*meta_event), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain
