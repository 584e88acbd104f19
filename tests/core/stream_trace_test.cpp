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

TEST_F(StreamTraceTest, ExposedIsWhereTheComputeStreamWaitsForAGroup) {
  trace_.start(StreamTrace::Detail::kExposed);
  {
    const Region layer(&trace_, compute_, {"forward", "layer 0"});
    sleep_ms(20);
    const Region hop(&trace_, ring_, {.what = "exchange", .group = "sp"});
    const Region wait(&trace_, compute_, {.what = "waiting for hop", .group = "sp"});
    const Region nested(&trace_, compute_, {.what = "all_reduce", .group = "tp"});
    sleep_ms(60);
  }
  sleep_ms(20);
  trace_.stop();
  EXPECT_EQ(trace_.regions().size(), 2u);
  EXPECT_GT(trace_.exposed_share(), 0.2);  // 0.6 on an idle machine
  EXPECT_LT(trace_.exposed_share(), 0.95);
  trace_.start(StreamTrace::Detail::kExposed);
  trace_.stop();
  EXPECT_EQ(trace_.exposed_share(), 0);
}

}  // namespace
}  // namespace ringtrain
