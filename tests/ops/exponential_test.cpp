#include "../../src/backend/cpu/exponential.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace ringtrain::cpu {
namespace {

TEST(ExponentialTest, IsWithinTwoUlpOfTheLibrary) {
  for (float x = -87.3f; x < 88.7f; x += 0.00137f) {
    const float exact = std::exp(x);
    const float ulp = std::nextafter(exact, std::numeric_limits<float>::infinity()) - exact;
    ASSERT_LE(std::fabs(exponential(x) - exact), 2 * ulp) << x;
  }
  EXPECT_EQ(exponential(0.0f), 1);
}

TEST(ExponentialTest, EndsOfTheRange) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exponential(-kInfinity), 0);
  EXPECT_EQ(exponential(-1000.0f), 0);
  EXPECT_EQ(exponential(-88.0f), 0);
  EXPECT_EQ(exponential(89.0f), kInfinity);
  EXPECT_EQ(exponential(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(exponential(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace ringtrain::cpu
