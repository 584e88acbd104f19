#include <gtest/gtest.h>

#include <cmath>

#include "support/op_test.h"

namespace ringtrain {
namespace {

HostTensor forward(TestDevice& device, DType dtype, const HostTensor& gate_up) {
  const Arena::Scope scope(device.arena());
  const Tensor out = device.poisoned({gate_up.shape[0], gate_up.shape[1] / 2}, dtype);
  device.backend().swiglu({.gate_up = device.upload(gate_up, dtype), .out = out}, device.stream());
  return device.download(out);
}

HostTensor backward(TestDevice& device, DType dtype, const HostTensor& gate_up,
                    const HostTensor& dout, bool in_place) {
  const Arena::Scope scope(device.arena());
  const Tensor in = device.upload(gate_up, dtype);
  const Tensor out = in_place ? in : device.poisoned(gate_up.shape, dtype);
  device.backend().swiglu_backward(
      {.gate_up = in, .dout = device.upload(dout, dtype), .dgate_up = out}, device.stream());
  return device.download(out);
}

struct SwigluCase {
  std::string name;
  std::int64_t rows, width;
};
class SwigluTest : public OpTest<SwigluCase> {};

TEST_P(SwigluTest, MatchesOracle) {
  const std::int64_t rows = test_case().rows, width = test_case().width;
  const HostTensor gate_up = random_normal({rows, 2 * width}, 1, dtype(), 3);
  const HostTensor dout = random_normal({rows, width}, 2, dtype());
  EXPECT_TRUE(matches(forward(device(), dtype(), gate_up),
                      forward(oracle(), DType::kFloat64, gate_up), 5e-7));
  const HostTensor expected = backward(oracle(), DType::kFloat64, gate_up, dout, false);
  const HostTensor apart = backward(device(), dtype(), gate_up, dout, false);
  EXPECT_TRUE(matches(apart, expected, 5e-7));
  EXPECT_TRUE(all_close(backward(device(), dtype(), gate_up, dout, true), apart, {}));
}

TEST_P(SwigluTest, SaturatesWithoutOverflow) {
  const std::int64_t rows = test_case().rows, width = test_case().width;
  HostTensor gate_up({rows, 2 * width}, 1);
  for (std::int64_t i = 0; i < rows * width; ++i) {
    gate_up[i / width * 2 * width + i % width] = i % 2 == 0 ? 1024 : -1024;
  }
  const HostTensor out = forward(device(), dtype(), gate_up);
  for (std::int64_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], i % 2 == 0 ? 1024 : 0);
}

RT_INSTANTIATE_OP_TEST(SwigluTest, (std::vector<SwigluCase>{{"no_rows", 0, 8},
                                                            {"one", 1, 1},
                                                            {"ragged", 33, 43},
                                                            {"wide", 17, 1376},
                                                            {"many_rows", 1030, 96}}));

TEST(SwigluOracleTest, HandWorkedValuesAndFiniteDifferences) {
  TestDevice& cpu = TestDevice::shared(DeviceType::kCpu);
  HostTensor gate_up({1, 4}, {0, std::log(3.0), 5, 2});
  const HostTensor out = forward(cpu, DType::kFloat64, gate_up);
  EXPECT_EQ(out[0], 0);
  EXPECT_NEAR(out[1], 2 * 0.75 * std::log(3.0), 1e-15);

  const HostTensor dout({1, 2}, {1.5, -2});
  const HostTensor gradient = backward(cpu, DType::kFloat64, gate_up, dout, false);
  constexpr double kStep = 1e-5;
  for (std::int64_t i = 0; i < 4; ++i) {
    const double value = gate_up[i];
    gate_up[i] = value + kStep;
    const double above = dot(forward(cpu, DType::kFloat64, gate_up), dout);
    gate_up[i] = value - kStep;
    const double below = dot(forward(cpu, DType::kFloat64, gate_up), dout);
    gate_up[i] = value;
    EXPECT_NEAR((above - below) / (2 * kStep), gradient[i], 1e-9) << i;
  }
}

}  // namespace
}  // namespace ringtrain
