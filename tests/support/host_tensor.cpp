#include "support/host_tensor.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

double round_to(double value, DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return value;
    case DType::kFloat32:
      return static_cast<float>(value);
    case DType::kBFloat16:
      return static_cast<float>(bfloat16(static_cast<float>(value)));
    default:
      throw InvalidArgument("test numbers are floating point");
  }
}

::testing::AssertionResult same_shape(const HostTensor& actual, const HostTensor& expected) {
  if (actual.shape == expected.shape) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "shape " << actual.shape.to_string() << ", expected " << expected.shape.to_string();
}

/// Euclidean.
double distance(const HostTensor& a, const HostTensor& b) {
  double squares = 0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) squares += (a[i] - b[i]) * (a[i] - b[i]);
  }
  return std::sqrt(squares);
}

double largest_difference(const HostTensor& a, const HostTensor& b) {
  double largest = 0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const double difference = a[i] == b[i] ? 0 : std::fabs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // NaN stays
    if (std::isnan(largest)) break;
  }
  return largest;
}

}  // namespace

HostTensor::HostTensor(Shape sizes, std::vector<double> data)
    : shape(sizes), values(std::move(data)) {
  if (shape.num_elements() != size()) {
    throw InvalidArgument(std::to_string(size()) + " numbers for a tensor " + shape.to_string());
  }
}

HostTensor::HostTensor(Shape sizes, double value)
    : shape(sizes), values(static_cast<std::size_t>(sizes.num_elements()), value) {}

HostTensor rounded(HostTensor tensor, DType dtype) {
  for (double& value : tensor.values) value = round_to(value, dtype);
  return tensor;
}

HostTensor random_normal(Shape shape, std::uint64_t seed, DType dtype, double stddev) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0, stddev);
  HostTensor tensor(shape);
  for (double& value : tensor.values) value = round_to(normal(generator), dtype);
  return tensor;
}

std::vector<std::int32_t> random_integers(std::int64_t count, std::int32_t begin, std::int32_t end,
                                          std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::uniform_int_distribution<std::int32_t> uniform(begin, end - 1);
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (std::int32_t& value : values) value = uniform(generator);
  return values;
}

double dot(const HostTensor& a, const HostTensor& b) {
  return std::inner_product(a.values.begin(), a.values.end(), b.values.begin(), 0.0);
}

::testing::AssertionResult all_close(const HostTensor& actual, const HostTensor& expected,
                                     Tolerance tolerance) {
  if (auto same = same_shape(actual, expected); !same) return same;
  for (std::int64_t i = 0; i < actual.size(); ++i) {
    if (actual[i] == expected[i]) continue;  // also infinities
    const double allowed = tolerance.absolute + tolerance.relative * std::fabs(expected[i]);
    const double difference = std::fabs(actual[i] - expected[i]);
    if (std::isfinite(difference) && difference <= allowed) continue;
    return ::testing::AssertionFailure()
           << "element " << i << " of " << actual.shape.to_string() << " is " << actual[i]
           << ", expected " << expected[i] << " (difference " << difference << ", allowed "
           << allowed << ")";
  }
  return ::testing::AssertionSuccess();
}

double relative_l2(const HostTensor& actual, const HostTensor& expected) {
  if (actual.shape != expected.shape) return INFINITY;
  const double difference = distance(actual, expected);
  return difference == 0 ? 0 : difference / distance(expected, HostTensor(expected.shape));
}

::testing::AssertionResult close_l2(const HostTensor& actual, const HostTensor& expected,
                                    Tolerance tolerance) {
  if (auto same = same_shape(actual, expected); !same) return same;
  const double norm = distance(expected, HostTensor(expected.shape));
  const double difference = distance(actual, expected);
  const double allowed = tolerance.relative * norm +
                         tolerance.absolute * std::sqrt(static_cast<double>(actual.size()));
  if (difference <= allowed) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "error " << difference << " in the Euclidean norm, allowed " << allowed << ", norm "
         << norm;
}

::testing::AssertionResult rivals(const HostTensor& actual, const HostTensor& rival,
                                  const HostTensor& oracle, double factor) {
  if (auto same = same_shape(actual, oracle); !same) return same;
  if (auto same = same_shape(rival, oracle); !same) return same;
  double scale = 0;
  for (const double value : oracle.values) {
    if (std::isfinite(value)) scale = std::max(scale, std::fabs(value));
  }
  const double error = largest_difference(actual, oracle);
  const double allowed = factor * largest_difference(rival, oracle) + 1e-5 * scale;
  if (error <= allowed) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "largest error " << error << ", allowed " << allowed << " (" << factor
         << " times the one of plain bf16), largest element " << scale;
}

}  // namespace ringtrain
