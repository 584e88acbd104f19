#include "ringtrain/core/progress_marks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "ringtrain/core/cpu_stream.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

class ProgressMarksTest : public ::testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_cpu_device();
  CpuStream compute_;
  CpuStream ring_;
  ProgressMarks marks_{*device_, {&compute_, &ring_}};
};

TEST_F(ProgressMarksTest, TellsWhereTheComputeStreamIs) {
  EXPECT_EQ(marks_.poll(), 0u);
  EXPECT_EQ(marks_.place().mark, 0u);
  marks_.set_step(7);
  {
    const Region layer(&marks_, compute_, {"backward", "layer 3"});
    const Region hop(&marks_, compute_, {.what = "waiting for hop", .index = 2, .group = "sp"});
    const Region elsewhere(&marks_, ring_, {"hop", nullptr, 2});
    EXPECT_EQ(marks_.poll(), 3u);
    EXPECT_EQ(marks_.place().text, "backward layer 3, waiting for hop 2 on group sp");
    EXPECT_EQ(marks_.place().step, 7);
  }
  EXPECT_EQ(marks_.poll(), 6u);
  EXPECT_EQ(marks_.num_marks(), 6u);
  EXPECT_EQ(marks_.place().text, "after backward layer 3");
  EXPECT_FALSE(marks_.place().is_busy);
}

// Work that is pending on a CPU stream stands for what a GPU has yet to do.
TEST_F(ProgressMarksTest, TheHostRunsAheadOfTheDevice) {
  marks_.begin(compute_, {"forward", "layer 0"});
  compute_.defer([] {});
  marks_.end(compute_);
  marks_.set_step(1);
  marks_.begin(compute_, {"forward", "layer 1"});
  EXPECT_EQ(marks_.poll(), 1u);
  EXPECT_EQ(marks_.place().text, "forward layer 0");
  EXPECT_EQ(marks_.place().step, 0);
  EXPECT_TRUE(marks_.place().is_busy);
  compute_.complete();
  EXPECT_EQ(marks_.poll(), 3u);
  EXPECT_EQ(marks_.place().text, "forward layer 1");
  EXPECT_EQ(marks_.place().step, 1);
}

TEST_F(ProgressMarksTest, NamesCommunicationThatIsPendingElsewhere) {
  const Region layer(&marks_, compute_, {"backward", "layer 0"});
  marks_.begin(ring_, {.what = "exchange", .group = "sp"});
  ring_.defer([] {});
  marks_.end(ring_);
  marks_.poll();
  EXPECT_EQ(marks_.place().text, "backward layer 0; pending: exchange on group sp");
  ring_.complete();
  marks_.poll();
  EXPECT_EQ(marks_.place().text, "backward layer 0");
}

TEST_F(ProgressMarksTest, MarksWithoutRoomAreLeftOut) {
  compute_.defer([] {});
  for (int i = 0; i < 5000; ++i) {
    const Region region(&marks_, compute_, {"forward"});
  }
  EXPECT_EQ(marks_.poll(), 0u);
  compute_.complete();
  const std::uint64_t passed = marks_.poll();
  EXPECT_GE(passed, 1024u);
  EXPECT_LT(passed, 10000u);
  const Region region(&marks_, compute_, {"update"});
  EXPECT_EQ(marks_.poll(), passed + 1);
  EXPECT_EQ(marks_.place().text, "update");
}

TEST_F(ProgressMarksTest, ARegionOnAnUnknownStreamIsRefused) {
  CpuStream other;
  EXPECT_THROW(marks_.begin(other, {"forward"}), InvalidArgument);
}

TEST_F(ProgressMarksTest, OneThreadPollsWhileAnotherEnqueues) {
  std::atomic<bool> is_over{false};
  std::thread poller([&] {
    std::uint64_t before = 0;
    while (!is_over) {
      const std::uint64_t passed = marks_.poll();
      EXPECT_GE(passed, before);
      before = passed;
    }
  });
  for (int i = 0; i < 20000; ++i) {
    const Region region(&marks_, compute_, {"step", nullptr, i});
    ring_.defer([] {});
    const Region hop(&marks_, ring_, {"hop", nullptr, i});
    if (i % 7 == 0) ring_.complete();
  }
  ring_.complete();
  is_over = true;
  poller.join();
  EXPECT_EQ(marks_.poll(), marks_.num_marks());
}

}  // namespace
}  // namespace ringtrain
