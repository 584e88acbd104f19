// Checks the Hopper matrix products against products in double precision and against each other,
// then times them beside cuBLASLt.
//   gemm_sm90            checks, then times
//   gemm_sm90 check      checks only; exit code 1 on a difference
//   gemm_sm90 time       times only; for other sizes than the standard ones: time TOKENS D F
// Times: batches of launches of the two by turns, random normal data, the best batch of each.
#include "ringtrain/kernels/gemm_sm90.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../src/backend/cuda/matmul.h"
#include "device_buffer.h"
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

std::size_t size(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows * columns);
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

struct Operand {
  Operand(std::int64_t rows, std::int64_t columns, std::uint32_t seed, float scale = 1)
      : memory(size(rows, columns)) {
    fill(memory, seed, scale);
  }
  bf16* get() const { return memory.get(); }
  Buffer<bf16> memory;
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

struct Problem {
  std::int64_t m, n, k;
  std::string name() const { return fmt::format("[{}, {}, {}]", m, n, k); }
};

/// One of the products that there is a kernel for.
struct Kind {
  const char* name;
  bool transpose_a, transpose_b, accumulate;
  DType out;
};
constexpr Kind kNt{"a b^T", false, true, false, DType::kBFloat16};
constexpr Kind kNtAdd{"a b^T added", false, true, true, DType::kBFloat16};
constexpr Kind kNn{"a b", false, false, false, DType::kBFloat16};
constexpr Kind kTnAdd{"a^T b added", true, false, true, DType::kFloat32};
constexpr std::array kKinds{kNt, kNtAdd, kNn, kTnAdd};

kernels::GemmSm90Args launch_args(const Kind& kind, const Problem& p, const bf16* a, const bf16* b,
                                  void* out) {
  return {.a = a,
          .b = b,
          .out = out,
          .m = p.m,
          .n = p.n,
          .k = p.k,
          .transpose_a = kind.transpose_a,
          .transpose_b = kind.transpose_b,
          .accumulate = kind.accumulate,
          .out_type = kind.out};
}

template <typename T>
void check_product(const Kind& kind, const Problem& p, int max_blocks) {
  const std::string name = fmt::format("{} {} blocks {}", kind.name, p.name(), max_blocks);
  const Operand a(p.m, p.k, 1), b(p.k, p.n, 2);
  const Output<T> out(p.m, p.n);
  auto args = launch_args(kind, p, a.get(), b.get(), out.get());
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
                                      {72, 1000, 136}, {384, 768, 512}, {640, 1376, 512}};
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

/// Seconds of one launch in a batch that takes about 0.15 s.
double batch_seconds(const std::function<void()>& launch, int launches) {
  cudaEvent_t begin = nullptr, end = nullptr;
  RT_CUDA_CHECK(cudaEventCreate(&begin));
  RT_CUDA_CHECK(cudaEventCreate(&end));
  RT_CUDA_CHECK(cudaEventRecord(begin));
  for (int i = 0; i < launches; ++i) launch();
  RT_CUDA_CHECK(cudaEventRecord(end));
  RT_CUDA_CHECK(cudaEventSynchronize(end));
  float ms = 0;
  RT_CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return static_cast<double>(ms) * 1e-3 / launches;
}

/// Two ways to the same result, by turns.
void time_both(const std::string& name, double flops, const std::function<void()>& ours,
               const std::function<void()>& theirs) {
  constexpr double kBatchSeconds = 0.15;
  constexpr int kRounds = 3;
  double best[2] = {INFINITY, INFINITY};
  const std::function<void()>* launches[2] = {&ours, &theirs};
  const int count = std::max(1, static_cast<int>(kBatchSeconds * 650e12 / flops));
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < 2; ++i) {
      const int which = round % 2 == 0 ? i : 1 - i;
      best[which] = std::min(best[which], batch_seconds(*launches[which], count));
    }
  }
  fmt::print("{:<34}{:>9.3f} ms{:>6.0f}{:>12.3f} ms{:>6.0f}{:>8.3f}\n", name, best[0] * 1e3,
             flops / best[0] * 1e-12, best[1] * 1e3, flops / best[1] * 1e-12, best[1] / best[0]);
}

class Timings {
 public:
  Timings(std::int64_t tokens, std::int64_t hidden, std::int64_t ffn)
      : t_(tokens),
        d_(hidden),
        f_(ffn),
        x_(t_, d_, 1),
        dy_(t_, d_, 2),
        gate_up_(t_, 2 * f_, 3),
        h_(t_, f_, 4),
        w13_(2 * f_, d_, 5, 0.02f),
        w2_(d_, f_, 6, 0.02f),
        out_(size(t_, d_)),
        dh_(size(t_, f_)),
        dw_(size(2 * f_, d_)),
        pairs_(size(t_, 2 * f_)),
        workspace_(std::size_t{32} << 20) {}

  void run() {
    const double unit =
        2.0 * static_cast<double>(t_) * static_cast<double>(d_) * static_cast<double>(f_);
    const std::string at = fmt::format("T{} D{} F{}", t_, d_, f_);
    fmt::print("{}\n", at);
    time_both(
        "gate|up, h only", 2 * unit, [&] { swiglu(false); },
        [&] {
          library(tensor(x_, t_, d_), tensor(w13_, 2 * f_, d_), pairs(), false, true, false);
          kernels::launch_swiglu({pairs_.get(), dh_.get(), t_, f_, DType::kBFloat16}, nullptr);
        });
    time_both(
        "gate|up, all kept", 2 * unit, [&] { swiglu(true); },
        [&] {
          library(tensor(x_, t_, d_), tensor(w13_, 2 * f_, d_), pairs(), false, true, false);
        });
    time_product("down", kNt, {t_, d_, f_}, h_, w2_, out_.get());
    time_product("down, added", kNtAdd, {t_, d_, f_}, h_, w2_, out_.get());
    time_both(
        "dh and its SwiGLU, with h", unit, [&] { backward(true); },
        [&] {
          library(tensor(dy_, t_, d_), tensor(w2_, d_, f_), dh(), false, false, false);
          kernels::launch_swiglu_backward(
              {gate_up_.get(), dh_.get(), pairs_.get(), t_, f_, DType::kBFloat16}, nullptr);
          kernels::launch_swiglu({gate_up_.get(), dh_.get(), t_, f_, DType::kBFloat16}, nullptr);
        });
    time_both(
        "dh and its SwiGLU", unit, [&] { backward(false); },
        [&] { library(tensor(dy_, t_, d_), tensor(w2_, d_, f_), dh(), false, false, false); });
    time_product("dx", kNn, {t_, d_, 2 * f_}, gate_up_, w13_, out_.get());
    time_product("dw13 added", kTnAdd, {2 * f_, d_, t_}, gate_up_, x_, dw_.get());
    time_product("dw2 added", kTnAdd, {d_, f_, t_}, dy_, h_, dw_.get());
  }

 private:
  static Tensor tensor(const Operand& operand, std::int64_t rows, std::int64_t columns) {
    return {operand.get(), DType::kBFloat16, {rows, columns}};
  }
  Tensor pairs() const { return {pairs_.get(), DType::kBFloat16, {t_, 2 * f_}}; }
  Tensor dh() const { return {dh_.get(), DType::kBFloat16, {t_, f_}}; }

  void library(Tensor a, Tensor b, Tensor out, bool transpose_a, bool transpose_b,
               bool accumulate) {
    cublas_.matmul({a, b, out, transpose_a, transpose_b, accumulate},
                   {workspace_.get(), workspace_.size()}, nullptr);
  }
  void swiglu(bool keeps) {
    kernels::launch_swiglu_gemm_sm90(
        {x_.get(), w13_.get(), keeps ? pairs_.get() : nullptr, dh_.get(), t_, f_, d_}, nullptr);
  }
  void backward(bool with_activation) {
    kernels::launch_swiglu_gemm_backward_sm90({dy_.get(), w2_.get(), gate_up_.get(), pairs_.get(),
                                               with_activation ? dh_.get() : nullptr, t_, f_, d_},
                                              nullptr);
  }
  void time_product(const std::string& name, const Kind& kind, const Problem& p, const Operand& a,
                    const Operand& b, void* out) {
    const auto args = launch_args(kind, p, a.get(), b.get(), out);
    const Tensor left = tensor(a, kind.transpose_a ? p.k : p.m, kind.transpose_a ? p.m : p.k);
    const Tensor right = tensor(b, kind.transpose_b ? p.n : p.k, kind.transpose_b ? p.k : p.n);
    const double flops =
        2.0 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
    time_both(
        name, flops, [&] { kernels::launch_gemm_sm90(args, nullptr); },
        [&] {
          library(left, right, {out, kind.out, {p.m, p.n}}, kind.transpose_a, kind.transpose_b,
                  kind.accumulate);
        });
  }

  std::int64_t t_, d_, f_;
  Operand x_, dy_, gate_up_, h_, w13_, w2_;
  Buffer<bf16> out_, dh_;
  Buffer<float> dw_;
  Buffer<bf16> pairs_;
  Buffer<char> workspace_;
  CublasLt cublas_;
};

void print_header() {
  fmt::print("{:<34}{:>12}{:>6}{:>15}{:>6}{:>8}\n", "", "ringtrain", "TF/s", "cuBLASLt", "TF/s",
             "ratio");
}

int run(const std::vector<std::string>& arguments) {
  const std::string what = arguments.empty() ? "" : arguments.front();
  if (what != "time") {
    check_all();
    fmt::print("{} cases, {} failures, worst relative l2 {:.2e}\n", cases, failures, worst_l2);
  }
  if (what != "check") {
    print_header();
    if (arguments.size() == 4) {
      Timings(std::stol(arguments[1]), std::stol(arguments[2]), std::stol(arguments[3])).run();
    } else {
      for (const std::int64_t tokens : {8192, 32768}) Timings(tokens, 4096, 11008).run();
      for (const std::int64_t tokens : {8192, 32768}) Timings(tokens, 5120, 13824).run();
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
