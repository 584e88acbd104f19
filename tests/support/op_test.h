#pragma once

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "support/gpu.h"
#include "support/test_device.h"

/// Tests of operations: one source, every back end and compute type.
///
///     struct SwigluCase { std::string name; std::int64_t rows, width; };
///     class SwigluTest : public OpTest<SwigluCase> {};
///     TEST_P(SwigluTest, MatchesOracle) { ... run(device(), dtype(), inputs) against
///                                         run(oracle(), DType::kFloat64, inputs) ... }
///     RT_INSTANTIATE_OP_TEST(SwigluTest, std::vector<SwigluCase>{{"empty", 0, 8}, ...});
///
/// The oracle is the CPU back end in fp64 on the same, already rounded inputs.
namespace ringtrain {

/// Where an operation runs and in which compute type.
struct Target {
  DeviceType device;
  DType dtype;
};

inline auto all_targets() {
  return ::testing::Values(
      Target{DeviceType::kCpu, DType::kFloat32}, Target{DeviceType::kCpu, DType::kBFloat16},
      Target{DeviceType::kCuda, DType::kFloat32}, Target{DeviceType::kCuda, DType::kBFloat16});
}

inline std::string name_of(const Target& target) {
  return (target.device == DeviceType::kCuda ? "cuda_" : "cpu_") +
         std::string(name_of(target.dtype));
}

/// A test of one named case on one target. Case has a member `name`.
template <typename Case>
class OpTest : public ::testing::TestWithParam<std::tuple<Case, Target>> {
 protected:
  void SetUp() override {
    if (target().device == DeviceType::kCuda) RT_SKIP_WITHOUT_GPU();
  }

  const Case& test_case() const { return std::get<0>(this->GetParam()); }
  DType dtype() const { return target().dtype; }
  bool is_bf16() const { return dtype() == DType::kBFloat16; }

  /// A result in the compute type: in fp32 within `fp32_error` in relative L2, in bf16 at most
  /// twice as far from the oracle as the oracle's own rounding is, or as `rival`.
  ::testing::AssertionResult matches(const HostTensor& actual, const HostTensor& expected,
                                     double fp32_error, const HostTensor& rival) const {
    if (is_bf16()) return rivals(actual, rival, expected, 2);
    return close_l2(actual, expected, {.relative = fp32_error});
  }
  ::testing::AssertionResult matches(const HostTensor& actual, const HostTensor& expected,
                                     double fp32_error) const {
    return matches(actual, expected, fp32_error, rounded(expected, dtype()));
  }
  TestDevice& device() const { return TestDevice::shared(target().device); }
  TestDevice& oracle() const { return TestDevice::shared(DeviceType::kCpu); }

 private:
  const Target& target() const { return std::get<1>(this->GetParam()); }
};

template <typename Case>
std::string op_test_name(const ::testing::TestParamInfo<std::tuple<Case, Target>>& info) {
  return std::get<0>(info.param).name + "_" + name_of(std::get<1>(info.param));
}

}  // namespace ringtrain

/// Instantiates `Fixture` for a vector of cases on all targets.
#define RT_INSTANTIATE_OP_TEST(Fixture, ...)                                                    \
  INSTANTIATE_TEST_SUITE_P(Ops, Fixture,                                                        \
                           ::testing::Combine(::testing::ValuesIn(__VA_ARGS__), all_targets()), \
                           [](const auto& test) { return op_test_name(test); })
