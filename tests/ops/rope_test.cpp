#include <gtest/gtest.h>

#include <cmath>

#include "ringtrain/ops/check.h"
#include "support/op_test.h"

namespace ringtrain {
namespace {

struct RopeCase {
  std::string name;
  std::int64_t batch, tokens, heads, kv_heads, head_dim;
  std::int32_t first_position = 0;
};

struct Heads {
  HostTensor query, key_value;
};

std::vector<std::int32_t> positions_of(const RopeCase& c) {
  std::vector<std::int32_t> positions;
  for (std::int32_t t = 0; t < c.tokens; ++t) positions.push_back(c.first_position + 3 * t);
  return positions;
}

HostTensor inverse_frequency(std::int64_t head_dim) {
  HostTensor frequency({head_dim / 2});
  for (std::int64_t i = 0; i < frequency.size(); ++i) {
    frequency[i] = std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
  }
  return rounded(frequency, DType::kFloat32);
}

Shape packed_shape(const RopeCase& c) {
  return {c.batch, c.tokens, c.heads + 2 * c.kv_heads, c.head_dim};
}

Heads split(TestDevice& device, DType dtype, const RopeCase& c, const HostTensor& qkv) {
  const Arena::Scope scope(device.arena());
  const Tensor query = device.poisoned({c.batch, c.tokens, c.heads, c.head_dim}, dtype);
  const Tensor key_value = device.poisoned({2, c.batch, c.tokens, c.kv_heads, c.head_dim}, dtype);
  device.backend().rope_split(
      {.qkv = device.upload(qkv, dtype),
       .positions = device.upload(positions_of(c)),
       .inverse_frequency = device.upload(inverse_frequency(c.head_dim), DType::kFloat32),
       .query = query,
       .key_value = key_value},
      device.stream());
  return {device.download(query), device.download(key_value)};
}

/// key_type: of the gradients of keys and values.
HostTensor merge(TestDevice& device, DType dtype, const RopeCase& c, const Heads& gradient,
                 DType key_type) {
  const Arena::Scope scope(device.arena());
  const Tensor dqkv = device.poisoned(packed_shape(c), dtype);
  device.backend().rope_merge(
      {.dquery = device.upload(gradient.query, accumulator_of(dtype)),
       .dkey_value = device.upload(gradient.key_value, key_type),
       .positions = device.upload(positions_of(c)),
       .inverse_frequency = device.upload(inverse_frequency(c.head_dim), DType::kFloat32),
       .dqkv = dqkv},
      device.stream());
  return device.download(dqkv);
}

Heads random_heads(const RopeCase& c, std::uint64_t seed, DType dtype) {
  return {random_normal({c.batch, c.tokens, c.heads, c.head_dim}, seed, dtype),
          random_normal({2, c.batch, c.tokens, c.kv_heads, c.head_dim}, seed + 1, dtype)};
}

class RopeTest : public OpTest<RopeCase> {};

TEST_P(RopeTest, MatchesOracle) {
  const RopeCase& c = test_case();
  const HostTensor qkv = random_normal(packed_shape(c), 1, dtype());
  const Heads actual = split(device(), dtype(), c, qkv);
  const Heads expected = split(oracle(), DType::kFloat64, c, qkv);
  EXPECT_TRUE(matches(actual.query, expected.query, 2e-7));
  EXPECT_TRUE(matches(actual.key_value, expected.key_value, 2e-7));

  for (const DType key_type : {accumulator_of(dtype()), dtype()}) {
    const Heads gradient = random_heads(c, 5, key_type);
    EXPECT_TRUE(matches(merge(device(), dtype(), c, gradient, key_type),
                        merge(oracle(), DType::kFloat64, c, gradient, DType::kFloat64), 2e-7));
  }
}

RT_INSTANTIATE_OP_TEST(RopeTest,
                       (std::vector<RopeCase>{{"no_tokens", 2, 0, 2, 1, 64},
                                              {"one_token", 1, 1, 1, 1, 2},
                                              {"head_dim_12", 2, 9, 4, 4, 12},
                                              {"groups", 2, 33, 8, 2, 64},
                                              {"head_dim_100", 1, 17, 1, 1, 100},
                                              {"head_dim_128", 1, 40, 4, 1, 128},
                                              {"beyond_float", 1, 5, 2, 1, 64, 1 << 30}}));

TEST(RopeOracleTest, HandWorkedValues) {
  TestDevice& cpu = TestDevice::shared(DeviceType::kCpu);
  // One token at position 3, H = 4: the pairs are (0, 2) with frequency 1 and (1, 3) with 1/100.
  const RopeCase c{"", 1, 1, 1, 1, 4, 3};
  const HostTensor qkv({1, 1, 3, 4}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  const Heads heads = split(cpu, DType::kFloat64, c, qkv);
  const double slow = 3 * static_cast<double>(0.01f);
  EXPECT_NEAR(heads.query[0], std::cos(3) - 3 * std::sin(3), 1e-14);
  EXPECT_NEAR(heads.query[2], 3 * std::cos(3) + std::sin(3), 1e-14);
  EXPECT_NEAR(heads.query[1], 2 * std::cos(slow) - 4 * std::sin(slow), 1e-14);
  EXPECT_NEAR(heads.query[3], 4 * std::cos(slow) + 2 * std::sin(slow), 1e-14);
  EXPECT_NEAR(heads.key_value[0], 5 * std::cos(3) - 7 * std::sin(3), 1e-14);
  for (std::int64_t i = 0; i < 4; ++i) EXPECT_EQ(heads.key_value[4 + i], qkv[8 + i]);
}

TEST(RopeOracleTest, MergeIsTheTransposeOfSplit) {
  TestDevice& cpu = TestDevice::shared(DeviceType::kCpu);
  const RopeCase c{"", 2, 7, 4, 2, 12, 11};
  const HostTensor qkv = random_normal(packed_shape(c), 1);
  const Heads gradient = random_heads(c, 2, DType::kFloat64);
  const Heads heads = split(cpu, DType::kFloat64, c, qkv);
  EXPECT_NEAR(dot(heads.query, gradient.query) + dot(heads.key_value, gradient.key_value),
              dot(qkv, merge(cpu, DType::kFloat64, c, gradient, DType::kFloat64)), 1e-11);
}

}  // namespace
}  // namespace ringtrain
