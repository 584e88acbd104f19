#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "ringtrain/core/random.h"
#include "support/op_test.h"

namespace ringtrain {
namespace {

HostTensor draw(TestDevice& device, DType dtype, std::int64_t count, std::int64_t first_counter,
                std::uint64_t key = 42, double stddev = 0.5) {
  const Arena::Scope scope(device.arena());
  const Tensor out = device.poisoned({count}, dtype);
  device.backend().random_normal(
      {.out = out, .key = key, .first_counter = first_counter, .stddev = stddev}, device.stream());
  return device.download(out);
}

TEST(PhiloxTest, KnownAnswers) {
  // kat_vectors of Random123, philox4x32 with 10 rounds.
  EXPECT_EQ(philox4x32(0, 0),
            (std::array<std::uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
}

TEST(PhiloxTest, KeysDependOnSeedAndName) {
  EXPECT_NE(random_key(1, "a"), random_key(2, "a"));
  EXPECT_NE(random_key(1, "a"), random_key(1, "b"));
}

TEST(RandomNormalOracleTest, FollowsBoxMuller) {
  const auto words = philox4x32(42, 3);
  const auto uniform = [&](std::size_t i) { return (words[i] + 0.5) / 4294967296.0; };
  const HostTensor block = draw(TestDevice::shared(DeviceType::kCpu), DType::kFloat64, 4, 12);
  for (std::size_t i = 0; i < 4; i += 2) {
    const double radius = 0.5 * std::sqrt(-2 * std::log(uniform(i)));
    const double angle = 2 * std::numbers::pi * uniform(i + 1);
    EXPECT_NEAR(block.values[i], radius * std::cos(angle), 1e-15);
    EXPECT_NEAR(block.values[i + 1], radius * std::sin(angle), 1e-15);
  }
}

struct RandomCase {
  std::string name;
  std::int64_t count, first_counter;
};
class RandomNormalTest : public OpTest<RandomCase> {};

TEST_P(RandomNormalTest, EqualsTheOracleToTheLastBit) {
  const auto& [name, count, first] = test_case();
  const HostTensor expected =
      rounded(draw(oracle(), DType::kFloat64, count, first), DType::kFloat32);
  EXPECT_TRUE(all_close(draw(device(), DType::kFloat32, count, first), expected, {}));
}

TEST_P(RandomNormalTest, ElementsDependOnTheirCounterAlone) {
  const auto& [name, count, first] = test_case();
  const HostTensor whole = draw(device(), DType::kFloat32, count, first);
  const std::int64_t cut = count / 3;
  const HostTensor rest = draw(device(), DType::kFloat32, count - cut, first + cut);
  for (std::int64_t i = cut; i < count; ++i) ASSERT_EQ(rest[i - cut], whole[i]);
}

RT_INSTANTIATE_OP_TEST(RandomNormalTest, (std::vector<RandomCase>{{"empty", 0, 0},
                                                                  {"one", 1, 7},
                                                                  {"ragged", 1027, 3},
                                                                  {"far", 100, 1LL << 40}}));

TEST(RandomNormalOracleTest, HasTheMomentsOfANormal) {
  constexpr std::int64_t kCount = 200000;
  const HostTensor x = draw(TestDevice::shared(DeviceType::kCpu), DType::kFloat32, kCount, 0, 7, 1);
  double moments[5] = {};
  for (const double value : x.values) {
    for (int power = 1; power < 5; ++power) moments[power] += std::pow(value, power) / kCount;
  }
  const double error = 5 / std::sqrt(static_cast<double>(kCount));  // five standard errors
  EXPECT_NEAR(moments[1], 0, error);
  EXPECT_NEAR(moments[2], 1, error * std::sqrt(2.0));
  EXPECT_NEAR(moments[3], 0, error * std::sqrt(15.0));
  EXPECT_NEAR(moments[4], 3, error * std::sqrt(96.0));
}

}  // namespace
}  // namespace ringtrain
