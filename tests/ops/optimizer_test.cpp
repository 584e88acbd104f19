#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/op_test.h"

namespace ringtrain {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A flat shard of three tensors with padding between them and behind.
struct Shard {
  std::int64_t count;
  std::vector<std::int64_t> ranges;  ///< [R, 4]
  std::int64_t num_ranges() const { return static_cast<std::int64_t>(ranges.size()) / 4; }
};

Shard shard_of(std::int64_t unit) {
  // Tensor 0 in two runs, tensor 2 counted elsewhere, one range empty.
  return {12 * unit + 5,
          {0, 4 * unit, 0,        1, 5 * unit, 5 * unit,  1,         1, 5 * unit, 8 * unit, 1,
           1, 8 * unit, 9 * unit, 2, 0,        10 * unit, 12 * unit, 0, 1}};
}

/// The tensor of element `i`, or -1 for padding.
std::int64_t tensor_of(const Shard& shard, std::int64_t i) {
  for (std::size_t r = 0; r < shard.ranges.size(); r += 4) {
    if (i >= shard.ranges[r] && i < shard.ranges[r + 1]) return shard.ranges[r + 2];
  }
  return -1;
}

struct OptimizerCase {
  std::string name;
  std::int64_t unit;  ///< shard_of(unit)
};
/// The compute type plays no part; bf16 targets keep the first moment in bf16.
class OptimizerTest : public OpTest<OptimizerCase> {
 protected:
  Shard shard() const { return shard_of(test_case().unit); }
};

TEST_P(OptimizerTest, SumOfSquaresCountsRangesInDouble) {
  const Shard s = shard();
  const HostTensor x = random_normal({s.count}, 1, DType::kFloat32);
  const Arena::Scope scope(device().arena());
  const Tensor sums = device().upload(HostTensor({3}, {1, 2, 3}), DType::kFloat64);
  device().backend().sum_of_squares({.x = device().upload(x, DType::kFloat32),
                                     .ranges = device().upload(s.ranges, {s.num_ranges(), 4}),
                                     .sums = sums},
                                    device().stream());
  HostTensor expected({3}, {1, 2, 3});
  for (std::int64_t i = 0; i < s.count; ++i) {
    const std::int64_t tensor = tensor_of(s, i);
    if (tensor == 0 || tensor == 1) expected[tensor] += x[i] * x[i];
  }
  EXPECT_TRUE(all_close(device().download(sums), expected, {.relative = 1e-12}));
}

TEST_P(OptimizerTest, ClipScaleClipsAboveTheNormOnly) {
  const auto clip = [&](double scale, double max_norm) {
    const Arena::Scope scope(device().arena());
    const Tensor out = device().poisoned({2}, DType::kFloat32);
    device().backend().clip_scale(
        {.sums = device().upload(HostTensor({3}, {9, 0, 16}), DType::kFloat64),
         .out = out,
         .scale = scale,
         .max_norm = max_norm},
        device().stream());
    return device().download(out);
  };
  const Tolerance tolerance{.relative = 1e-7};
  EXPECT_TRUE(all_close(clip(0.5, 2), HostTensor({2}, {2.5, 0.4}), tolerance));
  EXPECT_TRUE(all_close(clip(0.5, 3), HostTensor({2}, {2.5, 0.5}), tolerance));
  EXPECT_TRUE(all_close(clip(2, kInfinity), HostTensor({2}, {10, 2}), tolerance));
  EXPECT_TRUE(all_close(clip(0, 1), HostTensor({2}, {0, 0}), tolerance));
}

/// One after the other: parameter, first and second moment.
struct OptimizerState {
  HostTensor param, m, v;
};

TEST_P(OptimizerTest, AdamWFollowsItsFormula) {
  const Shard s = shard();
  constexpr double kRate = 0.02, kB1 = 0.9, kB2 = 0.95, kEps = 1e-8, kDecay = 0.1, kFactor = 0.5;
  const DType moment = dtype();
  const double b1 = rounded(HostTensor({1}, kB1), is_bf16() ? moment : DType::kFloat64)[0];
  OptimizerState expected{random_normal({s.count}, 1, DType::kFloat32), HostTensor({s.count}),
                          HostTensor({s.count})};
  const Arena::Scope scope(device().arena());
  const Tensor param = device().upload(expected.param, DType::kFloat32);
  const Tensor m = device().upload(expected.m, moment);
  const Tensor v = device().upload(expected.v, DType::kFloat32);
  const Tensor weights = device().poisoned(param.shape(), dtype());
  for (std::int64_t t = 1; t <= 3; ++t) {
    const HostTensor grad =
        random_normal({s.count}, 10 + static_cast<std::uint64_t>(t), DType::kFloat32);
    device().backend().adamw(
        {.param = param,
         .grad = device().upload(grad, DType::kFloat32),
         .factor = device().upload(HostTensor({2}, {123, kFactor}), DType::kFloat32),
         .m = m,
         .v = v,
         .weights = t == 2 ? Tensor{} : weights,
         .learning_rate = kRate,
         .b1 = kB1,
         .b2 = kB2,
         .eps = kEps,
         .weight_decay = kDecay,
         .step = t},
        device().stream());
    const double correction1 = 1 - std::pow(kB1, t), correction2 = 1 - std::pow(kB2, t);
    for (std::int64_t i = 0; i < s.count; ++i) {
      const double g = grad[i] * kFactor;
      double decayed = b1 * expected.m[i];
      if (is_bf16()) decayed = rounded(HostTensor({1}, decayed), moment)[0];
      const double mean = decayed + (1 - kB1) * g;
      expected.m[i] = is_bf16() ? rounded(HostTensor({1}, mean), moment)[0] : mean;
      expected.v[i] = kB2 * expected.v[i] + (1 - kB2) * g * g;
      expected.param[i] -=
          kRate * (mean / correction1 / (std::sqrt(expected.v[i] / correction2) + kEps) +
                   kDecay * expected.param[i]);
    }
  }
  // A bf16 moment may round the other way where fp32 and double differ: rarely, and by 2^-8.
  EXPECT_TRUE(close_l2(device().download(param), expected.param,
                       {.relative = is_bf16() ? 1e-5 : 2e-7, .absolute = 1e-8}));
  EXPECT_TRUE(close_l2(device().download(m), expected.m, {.relative = is_bf16() ? 1e-3 : 5e-7}));
  EXPECT_TRUE(close_l2(device().download(v), expected.v, {.relative = 5e-7}));
  EXPECT_TRUE(
      all_close(device().download(weights), rounded(device().download(param), dtype()), {}));
}

TEST_P(OptimizerTest, AdafactorFollowsItsFormulaAndLeavesPaddingAlone) {
  const Shard s = shard();
  constexpr double kRate = 1, kB1 = 0.9, kDecayRate = 0.99, kDecay = 0.01, kFactor = 0.25;
  const DType moment = dtype();
  const double b1 = rounded(HostTensor({1}, kB1), is_bf16() ? moment : DType::kFloat64)[0];
  OptimizerState expected{random_normal({s.count}, 1, DType::kFloat32), HostTensor({s.count}),
                          HostTensor({s.count})};
  // Sums of the whole tensors, of which this shard has a part; the last is below the least scale.
  const HostTensor sums({3}, {50, 8, 1e-9}), counts({3}, {200, 50, 10});
  const Arena::Scope scope(device().arena());
  const Tensor param = device().upload(expected.param, DType::kFloat32);
  const Tensor m = device().upload(expected.m, moment);
  const Tensor v = device().upload(expected.v, DType::kFloat32);
  for (std::int64_t t = 0; t < 3; ++t) {
    HostTensor grad = random_normal({s.count}, 10 + static_cast<std::uint64_t>(t), DType::kFloat32);
    if (t == 0) grad[0] = 0;  // the smallest second moment, 1e-30
    device().backend().adafactor(
        {.param = param,
         .grad = device().upload(grad, DType::kFloat32),
         .factor = device().upload(HostTensor({2}, {123, kFactor}), DType::kFloat32),
         .m = m,
         .v = v,
         .ranges = device().upload(s.ranges, {s.num_ranges(), 4}),
         .param_sums = device().upload(sums, DType::kFloat64),
         .param_counts = device().upload(counts, DType::kFloat64),
         .learning_rate = kRate,
         .b1 = kB1,
         .decay_rate = kDecayRate,
         .weight_decay = kDecay,
         .step = t},
        device().stream());
    const double keep = 1 - std::pow(static_cast<double>(t) + 1, -kDecayRate);
    for (std::int64_t i = 0; i < s.count; ++i) {
      const std::int64_t tensor = tensor_of(s, i);
      if (tensor < 0) continue;
      const double scale = std::max(1e-3, std::sqrt(sums[tensor] / counts[tensor]));
      const double g = grad[i] * kFactor;
      expected.v[i] = keep * expected.v[i] + (1 - keep) * (g * g + 1e-30);
      double decayed = b1 * expected.m[i];
      if (is_bf16()) decayed = rounded(HostTensor({1}, decayed), moment)[0];
      const double mean = decayed + (1 - kB1) * kRate * scale * g / std::sqrt(expected.v[i]);
      expected.m[i] = is_bf16() ? rounded(HostTensor({1}, mean), moment)[0] : mean;
      expected.param[i] -= mean + kDecay * expected.param[i];
    }
  }
  EXPECT_TRUE(close_l2(device().download(param), expected.param,
                       {.relative = is_bf16() ? 1e-5 : 5e-7, .absolute = 1e-8}));
  EXPECT_TRUE(close_l2(device().download(m), expected.m, {.relative = is_bf16() ? 1e-3 : 5e-7}));
  EXPECT_TRUE(close_l2(device().download(v), expected.v, {.relative = 5e-7}));
}

RT_INSTANTIATE_OP_TEST(OptimizerTest,
                       (std::vector<OptimizerCase>{
                           {"empty_ranges", 0}, {"one", 1}, {"ragged", 37}, {"many", 5000}}));

}  // namespace
}  // namespace ringtrain
