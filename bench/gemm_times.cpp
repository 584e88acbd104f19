// Times the Hopper matrix products beside cuBLASLt on random normal data.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "../src/backend/cuda/cuda_matmul.h"
#include "gemm_case.h"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/elementwise.h"
#include "ringtrain/kernels/swiglu.h"

namespace ringtrain::bench {
namespace {

/// Seconds of one launch in a batch.
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

/// Two ways to the same result, by turns, in batches of `batch_s` seconds: of each the best.
std::array<double, 2> best_seconds(double flops, double batch_s, const std::function<void()>& ours,
                                   const std::function<void()>& theirs) {
  constexpr int kRounds = 3;
  std::array<double, 2> best{INFINITY, INFINITY};
  const std::array launches{&ours, &theirs};
  const int count = std::max(1, static_cast<int>(batch_s * 650e12 / flops));
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < 2; ++i) {
      const std::size_t which = round % 2 == 0 ? i : 1 - i;
      best[which] = std::min(best[which], batch_seconds(*launches[which], count));
    }
  }
  return best;
}

constexpr double kBatchSeconds = 0.15;

void print_header(const std::string& title) {
  fmt::print("{:<34}{:>12}{:>6}{:>15}{:>6}{:>8}\n", title, "ringtrain", "TF/s", "cuBLASLt", "TF/s",
             "ratio");
}

void print(const std::string& name, double flops, const std::array<double, 2>& seconds) {
  const auto [ours, theirs] = seconds;
  fmt::print("{:<34}{:>9.3f} ms{:>6.0f}{:>12.3f} ms{:>6.0f}{:>8.3f}\n", name, ours * 1e3,
             flops / ours * 1e-12, theirs * 1e3, flops / theirs * 1e-12, theirs / ours);
}

void time_both(const std::string& name, double flops, const std::function<void()>& ours,
               const std::function<void()>& theirs) {
  print(name, flops, best_seconds(flops, kBatchSeconds, ours, theirs));
}

/// cuBLASLt as the CUDA back end uses it.
class Library {
 public:
  void matmul(const MatmulArgs& args) {
    cublas_.matmul(args, {workspace_.get(), workspace_.size()}, nullptr);
  }

 private:
  Buffer<char> workspace_{std::size_t{32} << 20};
  CublasLt cublas_;
};

Tensor tensor(const Operand& operand, std::int64_t rows, std::int64_t columns) {
  return {operand.get(), DType::kBFloat16, {rows, columns}};
}

/// One product by both; returns the seconds of each.
std::array<double, 2> product_seconds(Library& library, double batch_s, const Kind& kind,
                                      const Problem& p, const Operand& a, const Operand& b,
                                      void* out, const bf16* addend = nullptr) {
  const auto args = launch_args(kind, p, a.get(), b.get(), out, addend);
  const Tensor left = tensor(a, kind.transpose_a ? p.k : p.m, kind.transpose_a ? p.m : p.k);
  const Tensor right = tensor(b, kind.transpose_b ? p.n : p.k, kind.transpose_b ? p.k : p.n);
  return best_seconds(
      p.flops(), batch_s, [&] { kernels::launch_gemm_sm90(args, nullptr); },
      [&] {
        library.matmul({left,
                        right,
                        {out, kind.out, {p.m, p.n}},
                        kind.transpose_a,
                        kind.transpose_b,
                        kind.accumulate});
        if (addend != nullptr) {
          kernels::launch_add({addend, out, p.m * p.n, kind.out, kind.out}, nullptr);
        }
      });
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
        pairs_(size(t_, 2 * f_)) {}

  void run() {
    const double unit =
        2.0 * static_cast<double>(t_) * static_cast<double>(d_) * static_cast<double>(f_);
    print_header(fmt::format("T{} D{} F{}", t_, d_, f_));
    time_both(
        "gate|up, h only", 2 * unit, [&] { swiglu(false); },
        [&] {
          library(tensor(x_, t_, d_), tensor(w13_, 2 * f_, d_), pairs(), false, true);
          kernels::launch_swiglu({pairs_.get(), dh_.get(), t_, f_, DType::kBFloat16}, nullptr);
        });
    time_both(
        "gate|up, all kept", 2 * unit, [&] { swiglu(true); },
        [&] { library(tensor(x_, t_, d_), tensor(w13_, 2 * f_, d_), pairs(), false, true); });
    time_product("down", kNt, {t_, d_, f_}, h_, w2_, out_.get());
    time_product("down, added", kNtAdd, {t_, d_, f_}, h_, w2_, out_.get(), dy_.get());
    time_both(
        "dh and its SwiGLU, with h", unit, [&] { backward(true); },
        [&] {
          library(tensor(dy_, t_, d_), tensor(w2_, d_, f_), dh(), false, false);
          kernels::launch_swiglu_backward(
              {gate_up_.get(), dh_.get(), pairs_.get(), t_, f_, DType::kBFloat16}, nullptr);
          kernels::launch_swiglu({gate_up_.get(), dh_.get(), t_, f_, DType::kBFloat16}, nullptr);
        });
    time_both(
        "dh and its SwiGLU", unit, [&] { backward(false); },
        [&] { library(tensor(dy_, t_, d_), tensor(w2_, d_, f_), dh(), false, false); });
    time_product("dx", kNn, {t_, d_, 2 * f_}, gate_up_, w13_, out_.get());
    time_product("dw13 added", kTnAdd, {2 * f_, d_, t_}, gate_up_, x_, dw_.get());
    time_product("dw13", kTn, {2 * f_, d_, t_}, gate_up_, x_, dw_.get());
    time_product("dw2 added", kTnAdd, {d_, f_, t_}, dy_, h_, dw_.get());
    time_product("dw2", kTn, {d_, f_, t_}, dy_, h_, dw_.get());
  }

 private:
  Tensor pairs() const { return {pairs_.get(), DType::kBFloat16, {t_, 2 * f_}}; }
  Tensor dh() const { return {dh_.get(), DType::kBFloat16, {t_, f_}}; }

  void library(Tensor a, Tensor b, Tensor out, bool transpose_a, bool transpose_b) {
    library_.matmul({a, b, out, transpose_a, transpose_b});
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
                    const Operand& b, void* out, const bf16* addend = nullptr) {
    print(name, p.flops(), product_seconds(library_, kBatchSeconds, kind, p, a, b, out, addend));
  }

  std::int64_t t_, d_, f_;
  Operand x_, dy_, gate_up_, h_, w13_, w2_;
  Buffer<bf16> out_, dh_;
  Buffer<float> dw_;
  Buffer<bf16> pairs_;
  Library library_;
};

}  // namespace

void time_feed_forward(std::int64_t tokens, std::int64_t hidden, std::int64_t ffn) {
  Timings(tokens, hidden, ffn).run();
}

void time_products(std::int64_t tokens, std::int64_t hidden, std::int64_t ffn) {
  constexpr std::int64_t kVocabulary = 32000;
  const std::int64_t t = tokens, d = hidden, f = ffn, v = kVocabulary;
  struct Product {
    const char* name;
    Kind kind;
    Problem problem;
  };
  const std::vector<Product> products{
      {"qkv", kNt, {t, 3 * d, d}},      {"dqkv", kNn, {t, d, 3 * d}}, {"dwqkv", kTn, {3 * d, d, t}},
      {"wo", kNtAdd, {t, d, d}},        {"dwo", kTn, {d, d, t}},      {"down", kNtAdd, {t, d, f}},
      {"dgate_up", kNn, {t, d, 2 * f}}, {"dw13", kTn, {2 * f, d, t}}, {"dw2", kTn, {d, f, t}},
      {"logits", kNt, {t, v, d}},       {"dlogits", kNn, {t, d, v}},  {"dhead", kTn, {v, d, t}}};
  std::size_t largest = 0;
  for (const Product& product : products) {
    const Problem& p = product.problem;
    largest = std::max({largest, size(p.m, p.k), size(p.k, p.n), size(p.m, p.n)});
  }
  const auto elements = static_cast<std::int64_t>(largest);
  const Operand a(1, elements, 1), b(1, elements, 2, 0.02f);
  const Buffer<float> out(largest);
  Library library;
  fmt::print("T{} D{} F{}{:>33}{:>12}{:>8}\n", t, d, f, "ringtrain", "cuBLASLt", "ratio");
  for (const auto& [name, kind, p] : products) {
    const bf16* addend = kind.has_addend ? b.get() : nullptr;
    const auto [ours, theirs] = product_seconds(library, 0.05, kind, p, a, b, out.get(), addend);
    const bool is_ours = is_sm90_faster(launch_args(kind, p, a.get(), b.get(), out.get(), addend));
    fmt::print("{:<9}{:<15}{:<20}{:>9.3f} ms{:>9.3f} ms{:>8.3f}  {}\n", name, kind.name, p.name(),
               ours * 1e3, theirs * 1e3, theirs / ours, is_ours ? "ringtrain" : "cuBLASLt");
  }
}

}  // namespace ringtrain::bench
