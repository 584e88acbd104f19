#include "ringtrain/comm/clock_offset.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <vector>

#include "support/thread_world.h"

namespace ringtrain {
namespace {

TEST(ClockOffset, IsFoundWithinItsError) {
  run_ranks(4, [](World& world) {
    const double ahead = 100.0 * world.rank();
    const auto clock = [&] {
      const auto now = std::chrono::steady_clock::now().time_since_epoch();
      return std::chrono::duration<double>(now).count() + ahead;
    };
    const ClockOffset found = find_clock_offset(world, {false, true, false, true}, clock);
    const bool is_measured = world.rank() % 2 == 1;
    constexpr double kRounding = 1e-6;  // of seconds since the machine started
    EXPECT_LE(std::abs(found.offset_s - (is_measured ? ahead : 0)), found.error_s + kRounding);
    EXPECT_EQ(found.error_s > 0, is_measured);
    EXPECT_LT(found.error_s, 10.0);
  });
}

}  // namespace
}  // namespace ringtrain
