#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "ringtrain/core/dtype.h"
#include "ringtrain/core/tensor.h"

namespace ringtrain {

/// Numbers of a test on the host, always in double, row-major.
struct HostTensor {
  Shape shape;
  std::vector<double> values;

  HostTensor() = default;
  HostTensor(Shape sizes, std::vector<double> data);
  /// Every element is `value`.
  explicit HostTensor(Shape sizes, double value = 0);

  double& operator[](std::int64_t i) { return values[static_cast<std::size_t>(i)]; }
  double operator[](std::int64_t i) const { return values[static_cast<std::size_t>(i)]; }
  std::int64_t size() const { return static_cast<std::int64_t>(values.size()); }
};

/// Each element rounded to `dtype`, nearest even.
HostTensor rounded(HostTensor tensor, DType dtype);
/// Independent normal numbers, the same for equal seeds, rounded to `dtype`.
HostTensor random_normal(Shape shape, std::uint64_t seed, DType dtype = DType::kFloat64,
                         double stddev = 1);
/// Independent integers in [begin, end).
std::vector<std::int32_t> random_integers(std::int64_t count, std::int32_t begin, std::int32_t end,
                                          std::uint64_t seed);
/// Sum of products of equally shaped tensors.
double dot(const HostTensor& a, const HostTensor& b);

struct Tolerance {
  double relative = 0;
  double absolute = 0;
};

/// |actual - expected| <= absolute + relative |expected| everywhere; equal infinities are equal,
/// NaN equals nothing. The failure names the first bad index and both values.
::testing::AssertionResult all_close(const HostTensor& actual, const HostTensor& expected,
                                     Tolerance tolerance);
/// |actual - expected| / |expected| in the Euclidean norm; 0 if they are equal. Compare with <=,
/// so that NaN fails.
double relative_l2(const HostTensor& actual, const HostTensor& expected);

/// |actual - expected| <= relative |expected| + absolute sqrt(elements) in the Euclidean norm.
::testing::AssertionResult close_l2(const HostTensor& actual, const HostTensor& expected,
                                    Tolerance tolerance);

/// The largest error of `actual` is at most `factor` times the one of `rival`, a plain bf16
/// computation of the same thing, plus 1e-5 of the largest element of `oracle`.
::testing::AssertionResult rivals(const HostTensor& actual, const HostTensor& rival,
                                  const HostTensor& oracle, double factor);

}  // namespace ringtrain
