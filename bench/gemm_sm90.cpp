// Checks the Hopper matrix products against products in double precision and against each other,
// then times them beside cuBLASLt.
//   gemm_sm90            checks, then times
//   gemm_sm90 check      checks only; exit code 1 on a difference
//   gemm_sm90 time       times only
//   gemm_sm90 products   the same for every product of LLaMA layers, with the kernel that is chosen
// For other sizes than the standard ones: time TOKENS D F, products TOKENS D F.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gemm_case.h"
#include "gemm_reference.h"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/swiglu.h"

namespace ringtrain::bench {
namespace {

constexpr std::size_t kGuard = 4096;  // elements behind an output that must stay as they were

int failures = 0;
int cases = 0;
double worst_l2 = 0;

void fail(const std::string& name, const std::string& what) {
  if (++failures <= 25) fmt::print("FAIL {}: {}\n", name, what);
}

float value(bf16 x) {
  return __bfloat162float(x);
}
float value(float x) {
  return x;
}

/// A result of `rows` x `columns` that begins as NaN.
template <typename T>
struct Output {
  Output(std::int64_t rows, std::int64_t columns)
      : used(size(rows, columns)), memory(used + kGuard) {
    memory.poison();
  }
  T* get() const { return memory.get(); }
  std::vector<T> take(const std::string& name) const {
    RT_CUDA_CHECK(cudaDeviceSynchronize());
    std::vector<T> values = memory.host();
    const auto* guard = reinterpret_cast<const unsigned char*>(&values[used]);
    if (!std::all_of(guard, guard + kGuard * sizeof(T), [](unsigned char b) { return b == 0xFF; }))
      fail(name, "wrote behind the end");
    values.resize(used);
    return values;
  }
  std::size_t used;
  Buffer<T> memory;
};

/// The product in double of op(a) and op(b).
std::vector<double> product(const bf16* a, const bf16* b, std::int64_t m, std::int64_t n,
                            std::int64_t k, bool transpose_a, bool transpose_b) {
  const Buffer<double> out(size(m, n));
  run_reference_product({a, b, out.get(), m, n, k, transpose_a, transpose_b});
  return out.host();
}

/// Relative L2 at most `l2`; and the largest error at most twice that of `rival`, where given.
template <typename T>
void compare(const std::string& name, const std::vector<T>& actual,
             const std::vector<double>& expected, double l2, const std::vector<double>* rival) {
  double square = 0, square_difference = 0, largest = 0, rival_largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(static_cast<double>(value(actual[i])) - expected[i]);
    square += expected[i] * expected[i];
    square_difference += difference * difference;
    largest = std::max(largest, std::isfinite(difference) ? difference : INFINITY);
    if (rival) rival_largest = std::max(rival_largest, std::abs((*rival)[i] - expected[i]));
  }
  const double relative = std::sqrt(square_difference / std::max(square, 1e-300));
  ++cases;
  worst_l2 = std::max(worst_l2, relative);
  if (!(relative <= l2) || (rival && !(largest <= 2 * rival_largest + 1e-5))) {
    fail(name, fmt::format("l2 {:.2e} largest error {:.2e}, of plain bf16 {:.2e}", relative,
                           largest, rival_largest));
  }
}

template <typename T>
void expect_same(const std::string& name, const std::vector<T>& actual,
                 const std::vector<T>& expected) {
  ++cases;
  std::size_t different = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::memcmp(&actual[i], &expected[i], sizeof(T)) == 0) continue;
    if (different++ == 0) first = i;
  }
  if (different == 0) return;
  fail(name, fmt::format("{} of {} bits differ, first [{}]: {} and {}", different, expected.size(),
                         first, value(actual[first]), value(expected[first])));
}

double round_bf16(double x) {
  return value(__float2bfloat16_rn(static_cast<float>(x)));
}

template <typename T>
void check_product(const Kind& kind, const Problem& p, int max_blocks) {
  const std::string name = fmt::format("{} {} blocks {}", kind.name, p.name(), max_blocks);
  const Operand a(p.m, p.k, 1), b(p.k, p.n, 2);
  const Output<T> out(p.m, p.n);
  const Operand addend(p.m, p.n, 3, 4.0f);
  auto args =
      launch_args(kind, p, a.get(), b.get(), out.get(), kind.has_addend ? addend.get() : nullptr);
  args.max_blocks = max_blocks;
  if (!kernels::gemm_sm90_supports(args)) return;
  std::vector<double> expected =
      product(a.get(), b.get(), p.m, p.n, p.k, kind.transpose_a, kind.transpose_b);
  std::vector<T> before(out.used);
  if (kind.accumulate) {
    for (std::size_t i = 0; i < before.size(); ++i) {
      before[i] = static_cast<T>(static_cast<float>(i % 97) - 48.0f);
      expected[i] += static_cast<double>(value(before[i]));
    }
    RT_CUDA_CHECK(
        cudaMemcpy(out.get(), before.data(), before.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  kernels::launch_gemm_sm90(args, nullptr);
  if constexpr (sizeof(T) == 2) {
    std::vector<double> rival = expected;
    for (double& x : rival) x = round_bf16(x);
    if (kind.has_addend) {
      const std::vector<bf16> added = addend.memory.host();
      for (std::size_t i = 0; i < added.size(); ++i) {
        const auto term = static_cast<double>(value(added[i]));
        expected[i] += term;
        rival[i] = round_bf16(rival[i] + term);
      }
    }
    compare(name, out.take(name), expected, 4e-3, &rival);
  } else {
    compare(name, out.take(name), expected, 1e-5, nullptr);
  }
}

double silu(double x) {
  return x / (1 + std::exp(-x));
}

/// The fused kernel's results are to the bit those of the product and of the SwiGLU kernel.
void check_swiglu(const Problem& p, int max_blocks) {
  const std::string name = fmt::format("swiglu {} blocks {}", p.name(), max_blocks);
  const float scale = 2.0f / std::sqrt(static_cast<float>(p.k));
  const Operand x(p.m, p.k, 1), weight(2 * p.n, p.k, 2, scale);
  const Output<bf16> gate_up(p.m, 2 * p.n), both(p.m, p.n), alone(p.m, p.n), pair(p.m, 2 * p.n);
  kernels::SwigluGemmSm90Args args{.x = x.get(),
                                   .weight = weight.get(),
                                   .gate_up = gate_up.get(),
                                   .out = both.get(),
                                   .rows = p.m,
                                   .width = p.n,
                                   .depth = p.k,
                                   .max_blocks = max_blocks};
  kernels::launch_swiglu_gemm_sm90(args, nullptr);
  args.gate_up = nullptr;
  args.out = alone.get();
  kernels::launch_swiglu_gemm_sm90(args, nullptr);
  args.gate_up = pair.get();
  args.out = nullptr;
  kernels::launch_swiglu_gemm_sm90(args, nullptr);

  const Output<bf16> plain(p.m, 2 * p.n), activation(p.m, p.n);
  kernels::launch_gemm_sm90(
      launch_args(kNt, {p.m, 2 * p.n, p.k}, x.get(), weight.get(), plain.get()), nullptr);
  kernels::launch_swiglu({plain.get(), activation.get(), p.m, p.n, DType::kBFloat16}, nullptr);
  expect_same(name + " gate_up", gate_up.take(name), plain.take(name));
  expect_same(name + " gate_up alone", pair.take(name), plain.take(name));
  expect_same(name + " out", both.take(name), activation.take(name));
  expect_same(name + " out alone", alone.take(name), activation.take(name));

  const auto exact = product(x.get(), weight.get(), p.m, 2 * p.n, p.k, false, true);
  std::vector<double> expected(size(p.m, p.n)), rival(size(p.m, p.n));
  for (std::int64_t i = 0; i < p.m; ++i) {
    for (std::int64_t j = 0; j < p.n; ++j) {
      const double gate = exact[size(i, 2 * p.n) + size(1, j)];
      const double up = exact[size(i, 2 * p.n) + size(1, p.n + j)];
      expected[size(i, p.n) + size(1, j)] = silu(gate) * up;
      rival[size(i, p.n) + size(1, j)] = round_bf16(silu(round_bf16(gate)) * round_bf16(up));
    }
  }
  compare(name, both.take(name), expected, 4e-3, &rival);
}

/// The same for the gradient: m rows, n = width, k = depth.
void check_swiglu_backward(const Problem& p, int max_blocks) {
  const std::string name = fmt::format("swiglu backward {} blocks {}", p.name(), max_blocks);
  const float scale = 1.0f / std::sqrt(static_cast<float>(p.k));
  const Operand dout(p.m, p.k, 1), weight(p.k, p.n, 2, scale), gate_up(p.m, 2 * p.n, 3, 2.0f);
  const Output<bf16> apart(p.m, 2 * p.n), activation(p.m, p.n), in_place(p.m, 2 * p.n);
  RT_CUDA_CHECK(cudaMemcpy(in_place.get(), gate_up.get(), in_place.used * sizeof(bf16),
                           cudaMemcpyDeviceToDevice));
  kernels::SwigluGemmBackwardSm90Args args{.dout = dout.get(),
                                           .weight = weight.get(),
                                           .gate_up = gate_up.get(),
                                           .dgate_up = apart.get(),
                                           .activation = activation.get(),
                                           .rows = p.m,
                                           .width = p.n,
                                           .depth = p.k,
                                           .max_blocks = max_blocks};
  kernels::launch_swiglu_gemm_backward_sm90(args, nullptr);
  args.gate_up = args.dgate_up = in_place.get();
  args.activation = nullptr;
  kernels::launch_swiglu_gemm_backward_sm90(args, nullptr);

  const Output<bf16> dactivation(p.m, p.n), h(p.m, p.n), dgate_up(p.m, 2 * p.n);
  kernels::launch_gemm_sm90(launch_args(kNn, p, dout.get(), weight.get(), dactivation.get()),
                            nullptr);
  kernels::launch_swiglu_backward(
      {gate_up.get(), dactivation.get(), dgate_up.get(), p.m, p.n, DType::kBFloat16}, nullptr);
  kernels::launch_swiglu({gate_up.get(), h.get(), p.m, p.n, DType::kBFloat16}, nullptr);
  expect_same(name + " dgate_up", apart.take(name), dgate_up.take(name));
  expect_same(name + " in place", in_place.take(name), dgate_up.take(name));
  expect_same(name + " activation", activation.take(name), h.take(name));

  const auto exact = product(dout.get(), weight.get(), p.m, p.n, p.k, false, false);
  const std::vector<bf16> pairs = gate_up.memory.host();
  std::vector<double> expected(pairs.size()), rival(pairs.size());
  for (std::int64_t i = 0; i < p.m; ++i) {
    for (std::int64_t j = 0; j < p.n; ++j) {
      const std::size_t at = size(i, 2 * p.n) + size(1, j);
      const std::size_t at_up = at + size(1, p.n);
      const double gate = static_cast<double>(value(pairs[at]));
      const double up = static_cast<double>(value(pairs[at_up]));
      const double s = 1 / (1 + std::exp(-gate));
      const double d = exact[size(i, p.n) + size(1, j)];
      const double slope = s * (1 + gate * (1 - s));
      expected[at] = d * up * slope;
      expected[at_up] = d * gate * s;
      rival[at] = round_bf16(round_bf16(d) * up * slope);
      rival[at_up] = round_bf16(round_bf16(d) * gate * s);
    }
  }
  compare(name, apart.take(name), expected, 4e-3, &rival);
}

/// Equal inputs give equal bits, from run to run and for every number of blocks.
void check_repeat(const Problem& p, int runs) {
  const Operand x(p.m, p.k, 1), weight(2 * p.n, p.k, 2, 0.1f), down(p.k, p.n, 3, 0.1f);
  std::vector<bf16> first_gradient;
  std::vector<bf16> first;
  for (int run = 0; run < runs; ++run) {
    const Output<bf16> gate_up(p.m, 2 * p.n), out(p.m, p.n);
    const int max_blocks = run % 7 == 3 ? 1 + run : 0;
    kernels::launch_swiglu_gemm_sm90(
        {x.get(), weight.get(), gate_up.get(), out.get(), p.m, p.n, p.k, max_blocks}, nullptr);
    kernels::launch_swiglu_gemm_backward_sm90(
        {x.get(), down.get(), gate_up.get(), gate_up.get(), nullptr, p.m, p.n, p.k, max_blocks},
        nullptr);
    if (run == 0) {
      first = out.take("repeat");
      first_gradient = gate_up.take("repeat");
      continue;
    }
    expect_same("repeat " + p.name(), out.take("repeat"), first);
    expect_same("repeat gradient " + p.name(), gate_up.take("repeat"), first_gradient);
  }
}

void check_all() {
  const std::vector<Problem> problems{{8, 8, 8},       {1, 264, 64},    {128, 256, 64},
                                      {128, 256, 128}, {64, 128, 72},   {136, 264, 200},
                                      {200, 104, 328}, {129, 512, 256}, {1000, 72, 1000},
                                      {72, 1000, 136}, {384, 768, 512}, {640, 1376, 512},
                                      {640, 1376, 64}, {640, 1376, 8}};  // the loads run far ahead
  for (const Problem& p : problems) {
    for (const int max_blocks : {0, 1, 3}) {
      for (const Kind& kind : kKinds) {
        if (kind.out == DType::kFloat32) {
          check_product<float>(kind, p, max_blocks);
        } else {
          check_product<bf16>(kind, p, max_blocks);
        }
      }
      check_swiglu(p, max_blocks);
      check_swiglu_backward(p, max_blocks);
    }
  }
  check_product<bf16>(kNt, {5000, 4000, 1000}, 0);  // several bands of tiles
  check_product<float>(kTnAdd, {5000, 4000, 1000}, 0);
  check_repeat({1000, 1376, 512}, 40);
}

int run(const std::vector<std::string>& arguments) {
  const std::string what = arguments.empty() ? "" : arguments.front();
  if (what.empty() || what == "check") {
    check_all();
    fmt::print("{} cases, {} failures, worst relative l2 {:.2e}\n", cases, failures, worst_l2);
  }
  if (what == "check") return failures == 0 ? 0 : 1;
  const auto time = what == "products" ? time_products : time_feed_forward;
  if (arguments.size() == 4) {
    time(std::stol(arguments[1]), std::stol(arguments[2]), std::stol(arguments[3]));
  } else {
    for (const std::int64_t tokens : {8192, 32768}) {
      time(tokens, 4096, 11008);
      time(tokens, 5120, 13824);
    }
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ringtrain::bench

int main(int argc, char** argv) {
  try {
    return ringtrain::bench::run({argv + 1, argv + argc});
  } catch (const ringtrain::Error& error) {
    fmt::print(stderr, "gemm_sm90: {}\n", error.what());
    return error.exit_code();
  }
}
