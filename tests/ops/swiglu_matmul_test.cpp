#include <gtest/gtest.h>

#include <cmath>

#include "support/op_test.h"

namespace ringtrain {
namespace {

struct Forward {
  HostTensor gate_up, out;  // empty where not wanted
};

Forward forward(TestDevice& device, DType dtype, const HostTensor& x, const HostTensor& weight,
                bool wants_gate_up = true, bool wants_out = true) {
  const Arena::Scope scope(device.arena());
  const std::int64_t rows = x.shape[0], width = weight.shape[0] / 2;
  const SwigluMatmulArgs args{
      .x = device.upload(x, dtype),
      .weight = device.upload(weight, dtype),
      .gate_up = wants_gate_up ? device.poisoned({rows, 2 * width}, dtype) : Tensor(),
      .out = wants_out ? device.poisoned({rows, width}, dtype) : Tensor()};
  device.backend().swiglu_matmul(args, device.stream());
  return {wants_gate_up ? device.download(args.gate_up) : HostTensor(),
          wants_out ? device.download(args.out) : HostTensor()};
}

struct Backward {
  HostTensor dgate_up, activation;
};

Backward backward(TestDevice& device, DType dtype, const HostTensor& dout, const HostTensor& weight,
                  const HostTensor& gate_up, bool in_place = false, bool wants_activation = true) {
  const Arena::Scope scope(device.arena());
  const Tensor pairs = device.upload(gate_up, dtype);
  const SwigluMatmulBackwardArgs args{
      .dout = device.upload(dout, dtype),
      .weight = device.upload(weight, dtype),
      .gate_up = pairs,
      .dgate_up = in_place ? pairs : device.poisoned(gate_up.shape, dtype),
      .activation =
          wants_activation ? device.poisoned({dout.shape[0], weight.shape[1]}, dtype) : Tensor()};
  device.backend().swiglu_matmul_backward(args, device.stream());
  return {device.download(args.dgate_up),
          wants_activation ? device.download(args.activation) : HostTensor()};
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

/// What plain bf16 makes of exact products: each rounded, then silu(gate) up, rounded.
HostTensor rounded_swiglu(const HostTensor& exact_gate_up) {
  const HostTensor pairs = rounded(exact_gate_up, DType::kBFloat16);
  const std::int64_t rows = pairs.shape[0], width = pairs.shape[1] / 2;
  HostTensor out({rows, width});
  for (std::int64_t i = 0; i < out.size(); ++i) {
    const std::int64_t at = i / width * 2 * width + i % width;
    out[i] = pairs[at] * sigmoid(pairs[at]) * pairs[at + width];
  }
  return rounded(out, DType::kBFloat16);
}

/// The same of the gradient.
HostTensor rounded_gradient(const HostTensor& exact_dactivation, const HostTensor& gate_up) {
  const HostTensor d = rounded(exact_dactivation, DType::kBFloat16);
  const std::int64_t width = d.shape[1];
  HostTensor out(gate_up.shape);
  for (std::int64_t i = 0; i < d.size(); ++i) {
    const std::int64_t at = i / width * 2 * width + i % width;
    const double gate = gate_up[at], s = sigmoid(gate);
    out[at] = d[i] * gate_up[at + width] * s * (1 + gate * (1 - s));
    out[at + width] = d[i] * gate * s;
  }
  return rounded(out, DType::kBFloat16);
}

HostTensor identity(std::int64_t size) {
  HostTensor matrix({size, size});
  for (std::int64_t i = 0; i < size; ++i) matrix[i * size + i] = 1;
  return matrix;
}

struct SwigluMatmulCase {
  std::string name;
  std::int64_t rows, width, depth;
};
class SwigluMatmulTest : public OpTest<SwigluMatmulCase> {
 protected:
  HostTensor x() const { return random_normal({test_case().rows, test_case().depth}, 1, dtype()); }
  // Gate and up have a standard deviation of 2.
  HostTensor weight() const {
    return random_normal({2 * test_case().width, test_case().depth}, 2, dtype(),
                         2 / std::sqrt(static_cast<double>(test_case().depth)));
  }
  HostTensor dout() const {
    return random_normal({test_case().rows, test_case().depth}, 3, dtype());
  }
  HostTensor down() const {
    return random_normal({test_case().depth, test_case().width}, 4, dtype(),
                         1 / std::sqrt(static_cast<double>(test_case().depth)));
  }
};

TEST_P(SwigluMatmulTest, MatchesOracle) {
  const Forward expected = forward(oracle(), DType::kFloat64, x(), weight());
  const Forward actual = forward(device(), dtype(), x(), weight());
  EXPECT_TRUE(matches(actual.gate_up, expected.gate_up, 1e-6));
  // The errors of both products, each 1e-6, and of silu.
  EXPECT_TRUE(matches(actual.out, expected.out, 3e-6, rounded_swiglu(expected.gate_up)));
  if (is_bf16()) {
    EXPECT_TRUE(close_l2(actual.out, expected.out, {.relative = 4e-3}));
  }
}

TEST_P(SwigluMatmulTest, WhatIsAbsentChangesNoBit) {
  const Forward both = forward(device(), dtype(), x(), weight());
  EXPECT_TRUE(
      all_close(forward(device(), dtype(), x(), weight(), true, false).gate_up, both.gate_up, {}));
  EXPECT_TRUE(all_close(forward(device(), dtype(), x(), weight(), false, true).out, both.out, {}));
}

TEST_P(SwigluMatmulTest, BackwardMatchesOracle) {
  const HostTensor gate_up = forward(device(), dtype(), x(), weight()).gate_up;
  const Backward expected = backward(oracle(), DType::kFloat64, dout(), down(), gate_up);
  const Backward actual = backward(device(), dtype(), dout(), down(), gate_up);
  // dout . weight, from what becomes of it where gate and up are 1.
  const HostTensor at_one =
      backward(oracle(), DType::kFloat64, dout(), down(), HostTensor(gate_up.shape, 1)).dgate_up;
  const std::int64_t width = test_case().width;
  HostTensor dactivation({test_case().rows, width});
  for (std::int64_t i = 0; i < dactivation.size(); ++i) {
    dactivation[i] = at_one[i / width * 2 * width + width + i % width] / sigmoid(1);
  }
  EXPECT_TRUE(
      matches(actual.dgate_up, expected.dgate_up, 2e-6, rounded_gradient(dactivation, gate_up)));
  if (is_bf16()) {
    EXPECT_TRUE(close_l2(actual.dgate_up, expected.dgate_up, {.relative = 4e-3}));
  }
}

TEST_P(SwigluMatmulTest, BackwardRepeatsTheActivationAndMayWorkInPlace) {
  const Forward saved = forward(device(), dtype(), x(), weight());
  const Backward apart = backward(device(), dtype(), dout(), down(), saved.gate_up);
  EXPECT_TRUE(all_close(apart.activation, saved.out, {}));
  const Backward in_place =
      backward(device(), dtype(), dout(), down(), saved.gate_up, /*in_place=*/true);
  EXPECT_TRUE(all_close(in_place.dgate_up, apart.dgate_up, {}));
  EXPECT_TRUE(all_close(in_place.activation, apart.activation, {}));
  EXPECT_TRUE(
      all_close(backward(device(), dtype(), dout(), down(), saved.gate_up, true, false).dgate_up,
                apart.dgate_up, {}));
}

RT_INSTANTIATE_OP_TEST(SwigluMatmulTest,
                       (std::vector<SwigluMatmulCase>{{"no_rows", 0, 8, 16},
                                                      {"one", 1, 1, 1},
                                                      {"ragged", 33, 43, 45},
                                                      {"hidden_48", 35, 24, 48},
                                                      {"several_tiles", 300, 264, 200},
                                                      // More than half of the CUDA workspace.
                                                      {"blocks_of_rows", 1100, 2051, 3}}));

/// Identities for weights, so that gate and up, or the gradient, are given: SwiGLU alone.
class SwigluTest : public OpTest<SwigluMatmulCase> {
 protected:
  Forward swiglu(TestDevice& on, DType type, const HostTensor& gate_up) const {
    return forward(on, type, gate_up, identity(gate_up.shape[1]));
  }
};

TEST_P(SwigluTest, MatchesOracle) {
  const std::int64_t rows = test_case().rows, width = test_case().width;
  const HostTensor gate_up = random_normal({rows, 2 * width}, 1, dtype(), 3);
  const HostTensor dout = random_normal({rows, width}, 2, dtype());
  const HostTensor weight = identity(width);
  EXPECT_TRUE(matches(swiglu(device(), dtype(), gate_up).out,
                      swiglu(oracle(), DType::kFloat64, gate_up).out, 5e-7));
  EXPECT_TRUE(matches(backward(device(), dtype(), dout, weight, gate_up).dgate_up,
                      backward(oracle(), DType::kFloat64, dout, weight, gate_up).dgate_up, 5e-7));
}

TEST_P(SwigluTest, SaturatesWithoutOverflow) {
  const std::int64_t rows = test_case().rows, width = test_case().width;
  HostTensor gate_up({rows, 2 * width}, 1);
  for (std::int64_t i = 0; i < rows * width; ++i) {
    gate_up[i / width * 2 * width + i % width] = i % 2 == 0 ? 1024 : -1024;
  }
  const HostTensor out = swiglu(device(), dtype(), gate_up).out;
  for (std::int64_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], i % 2 == 0 ? 1024 : 0);
}

RT_INSTANTIATE_OP_TEST(SwigluTest, (std::vector<SwigluMatmulCase>{{"one", 1, 1, 1},
                                                                  {"ragged", 33, 43, 43},
                                                                  {"wide", 17, 344, 344},
                                                                  {"many_rows", 1030, 96, 96}}));

TEST(SwigluOracleTest, HandWorkedValuesAndFiniteDifferences) {
  TestDevice& cpu = TestDevice::shared(DeviceType::kCpu);
  HostTensor gate_up({1, 4}, {0, std::log(3.0), 5, 2});
  const auto out = [&] { return forward(cpu, DType::kFloat64, gate_up, identity(4)).out; };
  EXPECT_EQ(out()[0], 0);
  EXPECT_NEAR(out()[1], 2 * 0.75 * std::log(3.0), 1e-15);

  // The output goes on through `weight`, [3, 2].
  const HostTensor dout({1, 3}, {1.5, -2, 0.5});
  const HostTensor weight({3, 2}, {1, 2, -1, 0.5, 3, -2});
  const HostTensor doutput({1, 2}, {1.5 + 2 + 1.5, 3 - 1 - 1});
  const HostTensor gradient = backward(cpu, DType::kFloat64, dout, weight, gate_up).dgate_up;
  constexpr double kStep = 1e-5;
  for (std::int64_t i = 0; i < 4; ++i) {
    const double value = gate_up[i];
    gate_up[i] = value + kStep;
    const double above = dot(out(), doutput);
    gate_up[i] = value - kStep;
    const double below = dot(out(), doutput);
    gate_up[i] = value;
    EXPECT_NEAR((above - below) / (2 * kStep), gradient[i], 1e-8) << i;
  }
}

}  // namespace
}  // namespace ringtrain
