#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ringtrain/ops/check.h"
#include "support/op_test.h"

namespace ringtrain {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct CrossEntropyProblem {
  HostTensor logits;  ///< [rows, whole vocabulary]
  std::vector<std::int32_t> targets;
  HostTensor weights;        ///< [rows]
  std::int64_t parts = 1;    ///< ranks that share the vocabulary
  std::int64_t padding = 0;  ///< columns added to the last part
};

struct CrossEntropyResult {
  HostTensor logits;  ///< gradient, or the logits where none was asked for; without padding
  HostTensor totals;  ///< [2]
};

/// Columns [begin, end) and `padding` columns of NaN.
HostTensor columns_of(const HostTensor& logits, std::int64_t begin, std::int64_t end,
                      std::int64_t padding) {
  const std::int64_t rows = logits.shape[0], width = logits.shape[1];
  HostTensor part(Shape{rows, end - begin + padding}, NAN);
  for (std::int64_t row = 0; row < rows; ++row) {
    std::copy(logits.values.begin() + row * width + begin,
              logits.values.begin() + row * width + end, part.values.begin() + row * part.shape[1]);
  }
  return part;
}

/// The vocabulary in equal parts, the reductions over ranks done here.
CrossEntropyResult run(TestDevice& device, DType dtype, const CrossEntropyProblem& problem,
                       bool write_gradient = true) {
  const Arena::Scope scope(device.arena());
  const DType accumulator = accumulator_of(dtype);
  const std::int64_t rows = problem.logits.shape[0], width = problem.logits.shape[1];
  const Tensor targets = device.upload(problem.targets);
  const Tensor weights = device.upload(problem.weights, accumulator);
  struct Part {
    std::int64_t begin, end;
    Tensor logits;
    HostTensor stats;
  };
  std::vector<Part> parts;
  HostTensor maximum({rows}, -kInfinity);
  for (std::int64_t i = 0; i < problem.parts; ++i) {
    const std::int64_t begin = width * i / problem.parts, end = width * (i + 1) / problem.parts;
    const std::int64_t padding = i + 1 == problem.parts ? problem.padding : 0;
    const Tensor logits = device.upload(columns_of(problem.logits, begin, end, padding), dtype);
    const Tensor stats = device.poisoned({4, rows}, accumulator);
    device.backend().cross_entropy_stats({.logits = logits,
                                          .targets = targets,
                                          .stats = stats,
                                          .first_index = begin,
                                          .num_valid = end - begin},
                                         device.stream());
    parts.push_back({begin, end, logits, device.download(stats)});
    for (std::int64_t row = 0; row < rows; ++row) {
      maximum[row] = std::max(maximum[row], parts.back().stats[row]);
    }
  }
  HostTensor reduced({4, rows});
  for (const Part& part : parts) {
    const Tensor stats = device.upload(part.stats, accumulator);
    device.backend().cross_entropy_rescale(
        {.stats = stats, .maximum = device.upload(maximum, accumulator)}, device.stream());
    const HostTensor rescaled = device.download(stats);
    for (std::int64_t row = 0; row < rows; ++row) {
      EXPECT_EQ(rescaled[row], maximum[row]);
      reduced[row] = maximum[row];
      reduced[rows + row] += rescaled[rows + row];
      reduced[2 * rows + row] += rescaled[2 * rows + row];
      double& argmax = reduced[3 * rows + row];
      argmax = &part == &parts.front() ? rescaled[3 * rows + row]
                                       : std::min(argmax, rescaled[3 * rows + row]);
    }
  }
  const Tensor stats = device.upload(reduced, accumulator);
  CrossEntropyResult result{HostTensor(problem.logits.shape), HostTensor()};
  for (const Part& part : parts) {
    const Tensor totals = device.upload(HostTensor({2}, 100), DType::kFloat64);
    device.backend().cross_entropy_finish({.logits = part.logits,
                                           .targets = targets,
                                           .weights = weights,
                                           .stats = stats,
                                           .totals = totals,
                                           .first_index = part.begin,
                                           .num_valid = part.end - part.begin,
                                           .write_gradient = write_gradient},
                                          device.stream());
    const HostTensor after = device.download(part.logits);
    for (std::int64_t i = 0; i < after.size(); ++i) {
      const std::int64_t row = i / after.shape[1], column = part.begin + i % after.shape[1];
      if (column < part.end) {
        result.logits[row * width + column] = after[i];
      } else if (write_gradient) {
        EXPECT_EQ(after[i], 0) << "padding";
      }
    }
    const HostTensor part_totals = device.download(totals);
    if (part.begin == 0) result.totals = part_totals;
    EXPECT_TRUE(all_close(part_totals, result.totals, {}));  // every rank has the whole
  }
  for (double& total : result.totals.values) total -= 100;
  return result;
}

struct CrossEntropyCase {
  std::string name;
  std::int64_t rows, vocabulary, parts = 1, padding = 0;
  double stddev = 2;
};

CrossEntropyProblem random_problem(const CrossEntropyCase& c, DType dtype) {
  CrossEntropyProblem problem{
      random_normal({c.rows, c.vocabulary}, 1, dtype, c.stddev),
      random_integers(c.rows, 0, static_cast<std::int32_t>(c.vocabulary), 2),
      HostTensor({c.rows}, 1), c.parts, c.padding};
  for (std::int64_t row = 0; row < c.rows; ++row) {
    if (row % 4 == 1) problem.weights[row] = 0;
    if (row % 4 == 2) problem.weights[row] = 0.375;
    if (row % 3 == 0) {  // so that some rows are right
      problem.logits[row * c.vocabulary + problem.targets[static_cast<std::size_t>(row)]] = 64;
    }
  }
  return problem;
}

class CrossEntropyTest : public OpTest<CrossEntropyCase> {};

TEST_P(CrossEntropyTest, MatchesOracle) {
  const CrossEntropyProblem problem = random_problem(test_case(), dtype());
  const CrossEntropyResult actual = run(device(), dtype(), problem);
  CrossEntropyProblem unsplit = problem;
  unsplit.parts = 1;
  unsplit.padding = 0;
  const CrossEntropyResult expected = run(oracle(), DType::kFloat64, unsplit);
  EXPECT_TRUE(all_close(actual.totals, expected.totals, {.relative = 1e-6, .absolute = 1e-6}));
  EXPECT_EQ(actual.totals[1], expected.totals[1]);
  EXPECT_TRUE(matches(actual.logits, expected.logits, 1e-6));
}

TEST_P(CrossEntropyTest, WithoutGradientLogitsRest) {
  const CrossEntropyProblem problem = random_problem(test_case(), dtype());
  const CrossEntropyResult actual = run(device(), dtype(), problem, false);
  EXPECT_TRUE(all_close(actual.logits, problem.logits, {}));
  EXPECT_TRUE(all_close(actual.totals, run(device(), dtype(), problem).totals, {}));
}

TEST_P(CrossEntropyTest, RowsWithoutWeightCountNowhere) {
  CrossEntropyProblem problem = random_problem(test_case(), dtype());
  problem.weights = HostTensor(problem.weights.shape);
  if (problem.logits.size() > 0) problem.logits[0] = kInfinity;
  const CrossEntropyResult actual = run(device(), dtype(), problem);
  EXPECT_TRUE(all_close(actual.totals, HostTensor({2}), {}));
  EXPECT_TRUE(all_close(actual.logits, HostTensor(problem.logits.shape), {}));
}

RT_INSTANTIATE_OP_TEST(CrossEntropyTest,
                       (std::vector<CrossEntropyCase>{{"no_rows", 0, 10},
                                                      {"one", 1, 1},
                                                      {"ragged", 33, 97},
                                                      {"padded", 12, 100, 1, 28},
                                                      {"in_3_parts", 21, 100, 3},
                                                      {"in_4_parts_padded", 21, 130, 4, 6},
                                                      {"part_without_entries", 5, 3, 4, 2},
                                                      {"wide", 3, 32001, 2, 31},
                                                      {"large_logits", 8, 50, 2, 0, 200}}));

TEST(CrossEntropyOracleTest, HandWorkedValues) {
  TestDevice& cpu = TestDevice::shared(DeviceType::kCpu);
  // exp(logits) is 1, 1, 2; 3, 1, 0; and a tie, where the first entry is the answer.
  const double ln2 = std::log(2.0), ln3 = std::log(3.0);
  const CrossEntropyProblem problem{HostTensor({3, 3}, {0, 0, ln2, ln3, 0, -kInfinity, 5, 5, 5}),
                                    {2, 1, 0},
                                    HostTensor({3}, {1, 2, 3})};
  const CrossEntropyResult result = run(cpu, DType::kFloat64, problem);
  EXPECT_NEAR(result.totals[0], ln2 + 2 * std::log(4.0) + 3 * ln3, 1e-14);
  EXPECT_EQ(result.totals[1], 1 + 3);
  EXPECT_TRUE(
      all_close(result.logits,
                HostTensor({3, 3}, {0.25, 0.25, 0.5 - 1, 2 * 0.75, 2 * (0.25 - 1), 0, 1 - 3, 1, 1}),
                {.absolute = 1e-15}));
}

TEST(CrossEntropyOracleTest, GradientIsAFiniteDifference) {
  TestDevice& cpu = TestDevice::shared(DeviceType::kCpu);
  CrossEntropyProblem problem = random_problem({"", 4, 6}, DType::kFloat64);
  problem.logits = random_normal({4, 6}, 9);
  const HostTensor gradient = run(cpu, DType::kFloat64, problem).logits;
  constexpr double kStep = 1e-5;
  for (std::int64_t i = 0; i < problem.logits.size(); ++i) {
    const double value = problem.logits[i];
    problem.logits[i] = value + kStep;
    const double above = run(cpu, DType::kFloat64, problem, false).totals[0];
    problem.logits[i] = value - kStep;
    const double below = run(cpu, DType::kFloat64, problem, false).totals[0];
    problem.logits[i] = value;
    EXPECT_NEAR((above - below) / (2 * kStep), gradient[i], 1e-8) << i;
  }
}

}  // namespace
}  // namespace ringtrain
