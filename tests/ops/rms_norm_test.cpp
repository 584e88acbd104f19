#include <gtest/gtest.h>

#include <cmath>

#include "ringtrain/ops/check.h"
#include "support/op_test.h"

namespace ringtrain {
namespace {

constexpr float kEps = 1e-5f;

struct RmsNormProblem {
  HostTensor x, weight, dout, dx, dweight;
};
struct RmsNormResult {
  HostTensor out, rstd, dx, dweight;
};

RmsNormProblem random_problem(std::int64_t rows, std::int64_t width, DType dtype) {
  return {random_normal({rows, width}, 1, dtype), random_normal({width}, 2, dtype),
          random_normal({rows, width}, 3, dtype), random_normal({rows, width}, 4, dtype),
          random_normal({width}, 5, DType::kFloat32)};
}

RmsNormResult run(TestDevice& device, DType dtype, const RmsNormProblem& problem) {
  const Arena::Scope scope(device.arena());
  const Tensor x = device.upload(problem.x, dtype);
  const Tensor weight = device.upload(problem.weight, dtype);
  const Tensor out = device.poisoned(x.shape(), dtype);
  const Tensor rstd = device.poisoned({x.size(0)}, accumulator_of(dtype));
  const Tensor dx = device.upload(problem.dx, dtype);
  const Tensor dweight = device.upload(problem.dweight, accumulator_of(dtype));
  device.backend().rms_norm({.x = x, .weight = weight, .out = out, .rstd = rstd, .eps = kEps},
                            device.stream());
  device.backend().rms_norm_backward({.dout = device.upload(problem.dout, dtype),
                                      .x = x,
                                      .weight = weight,
                                      .rstd = rstd,
                                      .dx = dx,
                                      .dweight = dweight},
                                     device.stream());
  return {device.download(out), device.download(rstd), device.download(dx),
          device.download(dweight)};
}

struct RmsNormCase {
  std::string name;
  std::int64_t rows, width;
};
class RmsNormTest : public OpTest<RmsNormCase> {};

TEST_P(RmsNormTest, MatchesOracle) {
  const std::int64_t rows = test_case().rows, width = test_case().width;
  const RmsNormProblem problem = random_problem(rows, width, dtype());
  const RmsNormResult actual = run(device(), dtype(), problem);
  const RmsNormResult expected = run(oracle(), DType::kFloat64, problem);

  // Plain arithmetic in the compute type: normalised and cast, then multiplied and cast.
  RmsNormResult rival = expected;
  rival.dweight = problem.dweight;
  for (std::int64_t i = 0; i < rows * width; ++i) {
    const double normalised =
        rounded(HostTensor({1}, problem.x[i] * expected.rstd[i / width]), dtype())[0];
    rival.out[i] = normalised * problem.weight[i % width];
    rival.dweight[i % width] += problem.dout[i] * normalised;
  }
  EXPECT_TRUE(matches(actual.out, expected.out, 3e-7, rounded(rival.out, dtype())));
  EXPECT_TRUE(close_l2(actual.rstd, expected.rstd, {.relative = 3e-7}));
  EXPECT_TRUE(matches(actual.dx, expected.dx, 5e-7));
  EXPECT_TRUE(matches(actual.dweight, expected.dweight, 5e-7, rival.dweight));
  if (is_bf16()) {
    // Near enough to tell apart who casts before the product from who does not: they disagree in
    // many an element by 2^-8, and casting alike in one of 2^16.
    EXPECT_TRUE(close_l2(actual.out, rounded(rival.out, dtype()), {.relative = 2e-4}));
    EXPECT_TRUE(close_l2(actual.dweight, rival.dweight, {.relative = 2e-4}));
  }
}

TEST_P(RmsNormTest, ZeroRowsStayZero) {
  RmsNormProblem problem = random_problem(test_case().rows, test_case().width, dtype());
  problem.x = HostTensor(problem.x.shape);
  const RmsNormResult actual = run(device(), dtype(), problem);
  EXPECT_TRUE(all_close(actual.out, problem.x, {}));
  EXPECT_TRUE(all_close(actual.dweight, problem.dweight, {}));
}

TEST_P(RmsNormTest, IsDeterministic) {
  const RmsNormProblem problem = random_problem(test_case().rows, test_case().width, dtype());
  const RmsNormResult once = run(device(), dtype(), problem);
  const RmsNormResult again = run(device(), dtype(), problem);
  EXPECT_TRUE(all_close(again.dweight, once.dweight, {}));
  EXPECT_TRUE(all_close(again.dx, once.dx, {}));
}

RT_INSTANTIATE_OP_TEST(RmsNormTest,
                       (std::vector<RmsNormCase>{{"no_rows", 0, 64},
                                                 {"one", 1, 1},
                                                 {"narrow", 5, 48},
                                                 {"ragged", 131, 100},
                                                 {"wide", 7, 4096},
                                                 {"many_wide_rows", 401, 4096},
                                                 {"very_wide", 5, 5000},
                                                 {"many_odd_and_wide", 300, 1031},
                                                 {"many_wider_than_a_block_holds", 300, 9216},
                                                 {"odd_and_wide", 3, 1031},
                                                 {"many_rows", 1030, 256}}));

TEST(RmsNormOracleTest, HandWorkedValuesAndFiniteDifferences) {
  TestDevice& cpu = TestDevice::shared(DeviceType::kCpu);
  RmsNormProblem problem = random_problem(3, 4, DType::kFloat64);
  problem.x = HostTensor({3, 4}, {1, -1, 1, 1, 4, 0, 0, 0, 1, 2, -3, 0.5});
  problem.dx = HostTensor({3, 4}, 10);
  problem.dweight = HostTensor({4}, 20);
  const RmsNormResult result = run(cpu, DType::kFloat64, problem);
  const double eps = static_cast<double>(kEps);
  EXPECT_NEAR(result.rstd[0], 1 / std::sqrt(1 + eps), 1e-15);
  EXPECT_NEAR(result.out[1], -problem.weight[1] / std::sqrt(1 + eps), 1e-15);
  EXPECT_NEAR(result.out[4], problem.weight[0] * 4 / std::sqrt(4 + eps), 1e-15);

  constexpr double kStep = 1e-5;
  const auto check = [&](HostTensor& input, const HostTensor& gradient, double base) {
    for (std::int64_t i = 0; i < input.size(); ++i) {
      const double value = input[i];
      input[i] = value + kStep;
      const double above = dot(run(cpu, DType::kFloat64, problem).out, problem.dout);
      input[i] = value - kStep;
      const double below = dot(run(cpu, DType::kFloat64, problem).out, problem.dout);
      input[i] = value;
      EXPECT_NEAR((above - below) / (2 * kStep), gradient[i] - base, 1e-8) << i;
    }
  };
  check(problem.x, result.dx, 10);
  check(problem.weight, result.dweight, 20);
}

}  // namespace
}  // namespace ringtrain
