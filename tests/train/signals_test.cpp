#include "ringtrain/train/signals.h"

#include <gtest/gtest.h>

#include <csignal>

namespace ringtrain {
namespace {

TEST(StopSignalsTest, RemembersTheFirstSignal) {
  const StopSignals signals;
  EXPECT_EQ(signals.received(), 0);
  std::raise(SIGUSR1);
  EXPECT_EQ(signals.received(), SIGUSR1);
  std::raise(SIGUSR1);
  std::raise(SIGTERM);
  EXPECT_EQ(signals.received(), SIGUSR1);
  EXPECT_EQ(StopSignals::name_of(signals.received()), "SIGUSR1");
}

TEST(StopSignalsTest, StartsAfreshEachTime) {
  {
    const StopSignals signals;
    std::raise(SIGTERM);
    EXPECT_EQ(signals.received(), SIGTERM);
  }
  const StopSignals signals;
  EXPECT_EQ(signals.received(), 0);
  std::raise(SIGTERM);
  EXPECT_EQ(signals.received(), SIGTERM);
}

TEST(StopSignalsDeathTest, SecondTermEndsTheProcess) {
  EXPECT_EXIT(
      {
        const StopSignals signals;
        std::raise(SIGTERM);
        std::raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

TEST(StopSignalsDeathTest, EarlierHandlersReturn) {
  EXPECT_EXIT(
      {
        { const StopSignals signals; }
        std::raise(SIGUSR1);
      },
      ::testing::KilledBySignal(SIGUSR1), "");
}

}  // namespace
}  // namespace ringtrain
