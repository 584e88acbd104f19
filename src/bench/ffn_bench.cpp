#include "ringtrain/bench/ffn_bench.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "ringtrain/bench/timing.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr std::array kPassNames{std::pair{FfnPass::kForward, "forward"},
                                std::pair{FfnPass::kForwardKeeping, "forward_keeping"},
                                std::pair{FfnPass::kBackward, "backward"},
                                std::pair{FfnPass::kBackwardRepeating, "backward_repeating"}};

bool is_forward(FfnPass pass) {
  return pass == FfnPass::kForward || pass == FfnPass::kForwardKeeping;
}

void check(const FfnBenchCase& what) {
  for (const std::int64_t size : {what.tokens, what.hidden, what.ffn}) {
    if (size < 1) {
      throw InvalidArgument(
          fmt::format("sizes of a feed-forward block must be at least 1, got {}", size));
    }
  }
  if (what.chunk < 0)
    throw InvalidArgument(fmt::format("a chunk cannot have {} tokens", what.chunk));
}

/// The tensors of one case.
class FfnBench {
 public:
  FfnBench(Device& device, Backend& ops, DType compute, const FfnBenchCase& what)
      : ops_(ops),
        what_(what),
        chunk_(what.chunk > 0 ? std::min(what.chunk, what.tokens) : what.tokens),
        tensors_(device, ops) {
    const std::int64_t d = what.hidden, f = what.ffn;
    const auto weights = [&](Shape shape, std::uint64_t key) {
      return tensors_.random(shape, compute, key, 1.0 / std::sqrt(static_cast<double>(shape[1])));
    };
    x_ = tensors_.random({what.tokens, d}, compute, 1);
    w13_ = weights({2 * f, d}, 2);
    w2_ = weights({d, f}, 3);
    out_ = tensors_.allocate({what.tokens, d}, compute);
    activation_ = tensors_.allocate({chunk_, f}, compute);
    if (what.pass == FfnPass::kForward) return;
    const bool is_kept = what.pass != FfnPass::kBackwardRepeating;
    gate_up_ = tensors_.allocate({is_kept ? what.tokens : chunk_, 2 * f}, compute);
    if (is_forward(what.pass)) return;
    dout_ = tensors_.random({what.tokens, d}, compute, 4);
    dgate_up_ = is_kept ? tensors_.allocate({chunk_, 2 * f}, compute) : gate_up_;
    dw13_ = tensors_.allocate({2 * f, d}, DType::kFloat32);
    dw2_ = tensors_.allocate({d, f}, DType::kFloat32);
    if (is_kept) ops_.swiglu_matmul({x_, w13_, gate_up_, {}}, stream());
  }

  Stream& stream() { return tensors_.stream(); }

  void run() {
    for (std::int64_t begin = 0; begin < what_.tokens; begin += chunk_) {
      const std::int64_t count = std::min(chunk_, what_.tokens - begin);
      if (is_forward(what_.pass)) {
        forward(begin, count);
      } else {
        backward(begin, count);
      }
    }
  }

 private:
  void forward(std::int64_t begin, std::int64_t count) {
    const Tensor activation = activation_.slice(0, count);
    const Tensor gate_up = gate_up_ ? gate_up_.slice(begin, count) : Tensor();
    ops_.swiglu_matmul({x_.slice(begin, count), w13_, gate_up, activation}, stream());
    ops_.matmul({activation, w2_, out_.slice(begin, count), false, true}, stream());
  }

  void backward(std::int64_t begin, std::int64_t count) {
    const bool is_kept = what_.pass == FfnPass::kBackward;
    const Tensor x = x_.slice(begin, count);
    const Tensor dout = dout_.slice(begin, count);
    const Tensor activation = activation_.slice(0, count);
    const Tensor gate_up = gate_up_.slice(is_kept ? begin : 0, count);
    const Tensor dgate_up = dgate_up_.slice(0, count);
    if (!is_kept) ops_.swiglu_matmul({x, w13_, gate_up, {}}, stream());
    ops_.swiglu_matmul_backward({dout, w2_, gate_up, dgate_up, activation}, stream());
    const bool adds = begin > 0;
    ops_.matmul({dout, activation, dw2_, true, false, adds}, stream());
    ops_.matmul({dgate_up, x, dw13_, true, false, adds}, stream());
    ops_.matmul({dgate_up, w13_, out_.slice(begin, count)}, stream());
  }

  Backend& ops_;
  FfnBenchCase what_;
  std::int64_t chunk_;
  BenchTensors tensors_;
  Tensor x_, w13_, w2_, out_, gate_up_, activation_;
  Tensor dout_, dgate_up_, dw13_, dw2_;
};

}  // namespace

std::string_view name_of(FfnPass pass) {
  return std::ranges::find(kPassNames, pass, &decltype(kPassNames)::value_type::first)->second;
}

FfnPass parse_ffn_pass(std::string_view name) {
  for (const auto& [pass, its_name] : kPassNames) {
    if (name == its_name) return pass;
  }
  throw InvalidArgument(fmt::format("'{}' is none of {}", name, fmt::join(ffn_pass_names(), ", ")));
}

std::vector<std::string_view> ffn_pass_names() {
  std::vector<std::string_view> names;
  for (const auto& [pass, name] : kPassNames) names.emplace_back(name);
  return names;
}

double FfnBenchCase::flops() const {
  return 6.0 * static_cast<double>(tokens) * static_cast<double>(hidden) *
         static_cast<double>(ffn) * (is_forward(pass) ? 1 : 2);
}

std::vector<FfnBenchCase> standard_ffn_cases() {
  std::vector<FfnBenchCase> cases;
  for (const auto& [hidden, ffn] : {std::pair{4096, 11008}, std::pair{5120, 13824}}) {
    for (const std::int64_t tokens : {8192, 32768}) {
      for (const auto& [pass, name] : kPassNames) {
        cases.push_back({.tokens = tokens, .hidden = hidden, .ffn = ffn, .pass = pass});
      }
    }
  }
  return cases;
}

double time_ffn(Device& device, Backend& ops, DType compute, const FfnBenchCase& what, int warmups,
                int runs) {
  check(what);
  FfnBench bench(device, ops, compute, what);
  return median_ms(device, bench.stream(), warmups, runs, [&] { bench.run(); });
}

}  // namespace ringtrain
