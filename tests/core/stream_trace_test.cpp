#include "ringtrain/core/stream_trace.h"

#include <gtest/gtest.h>

#include <thread>

#include "ringtrain/core/cpu_stream.h"

namespace ringtrain {
namespace {

void sleep_ms(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

class StreamTraceTest : public ::testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_cpu_device();
  CpuStream compute_;
  CpuStream ring_;
  StreamTrace trace_{*device_, {&compute_, &ring_}};
};

TEST_F(StreamTraceTest, TimesRegionsOnTheirStreams) {
  { const Region before(&trace_, compute_, {"not timed"}); }
  const auto start = StreamTrace::Clock::now();
  trace_.start(StreamTrace::Detail::kAll);
  {
    const Region layer(&trace_, compute_, {"forward", "layer 0"});
    {
      const Region hop(&trace_, ring_, {.what = "exchange", .group = "sp", .bytes = 96});
      ring_.defer([] { sleep_ms(20); });
    }
    const Region attention(&trace_, compute_, {"attention forward"});
    sleep_ms(10);
    ring_.complete();
  }
  trace_.stop();
  { const Region after(&trace_, compute_, {"not timed"}); }
  const auto regions = trace_.regions();
  ASSERT_EQ(regions.size(), 3u);
  const auto& [layer, hop, attention] = std::tie(regions[0], regions[1], regions[2]);
  EXPECT_EQ(layer.name, "forward layer 0");
  EXPECT_EQ(layer.stream, 0u);
  EXPECT_EQ(hop.name, "exchange on group sp");
  EXPECT_EQ(hop.stream, 1u);
  EXPECT_EQ(hop.group, "sp");
  EXPECT_EQ(hop.bytes, 96u);
  EXPECT_GE(hop.end_s - hop.begin_s, 0.03);  // until it was complete, not until it was started
  EXPECT_GE(attention.begin_s, layer.begin_s);
  EXPECT_LE(attention.end_s, layer.end_s);
  EXPECT_GE(attention.end_s - attention.begin_s, 0.03);
  EXPECT_GE(layer.begin_s, 0);
  EXPECT_GE(trace_.started_at(), start);
  EXPECT_LT(trace_.start_error_s(), 0.01);
}

TEST_F(StreamTraceTest, TimesOnlyWaitsOfTheComputeStreamWhereAsked) {
  trace_.start(StreamTrace::Detail::kExposed);
  {
    const Region layer(&trace_, compute_, {"forward", "layer 0"});
    const Region hop(&trace_, ring_, {.what = "exchange", .group = "sp"});
    const Region wait(&trace_, compute_, {.what = "waiting for hop", .index = 1, .group = "sp"});
  }
  trace_.stop();
  const auto regions = trace_.regions();
  ASSERT_EQ(regions.size(), 1u);
  EXPECT_EQ(regions[0].name, "waiting for hop 1 on group sp");
}

TEST_F(StreamTraceTest, OnTheCpuTheHostsTimeInCommunicationIsExposed) {
  const auto compute = device_->make_stream(StreamPriority::kNormal);
  const auto ring = device_->make_stream(StreamPriority::kNormal);
  StreamTrace trace(*device_, {compute.get(), ring.get()});
  CpuStream::of(*ring).defer([] { sleep_ms(20); });
  ring->synchronise();  // before the step
  trace.start(StreamTrace::Detail::kExposed);
  sleep_ms(20);
  CpuStream::of(*ring).defer([] { sleep_ms(60); });
  ring->synchronise();
  sleep_ms(20);
  trace.stop();
  EXPECT_GT(trace.exposed_share(), 0.2);  // 0.6 on an idle machine
  EXPECT_LT(trace.exposed_share(), 0.95);
  trace.start(StreamTrace::Detail::kExposed);
  trace.stop();
  EXPECT_EQ(trace.exposed_share(), 0);
}

TEST(ExposedSeconds, CountRegionsOfGroupsOnTheComputeStreamOnce) {
  const auto region = [](std::size_t stream, double begin, double end, const char* group) {
    return StreamTrace::Timed{"", stream, begin, end, group, 0};
  };
  EXPECT_EQ(exposed_seconds({}), 0);
  EXPECT_EQ(
      exposed_seconds({region(0, 0, 16, ""), region(0, 1, 3, "sp"), region(1, 2, 9, "sp"),
                       region(0, 4, 8, "param"), region(0, 5, 7, "tp"), region(0, 7, 10, "tp")}),
      2.0 + 4.0 + 2.0);
  // What computes beside a wait hides it; waits beside do not.
  EXPECT_EQ(exposed_seconds({region(0, 1, 4, "sp"), region(3, 0, 2, ""), region(3, 2, 3, "sp"),
                             region(0, 6, 8, "sp"), region(3, 3, 3.5, ""), region(0, 9, 11, "sp"),
                             region(3, 7, 10, "")}),
            1.5 + 1.0 + 1.0);
}

}  // namespace
}  // namespace ringtrain
