#include <algorithm>
#include <cmath>
#include <limits>

#include "exponential.h"
#include "ringtrain/ops/cpu/operations.h"
#include "scalar.h"

namespace ringtrain::cpu {
namespace {

/// The rows of CrossEntropyStatsArgs::stats.
template <typename A>
struct Stats {
  explicit Stats(const Tensor& stats)
      : maximum(stats.data<A>()),
        sum(maximum + stats.size(1)),
        target(sum + stats.size(1)),
        argmax(target + stats.size(1)) {}
  A* maximum;
  A* sum;
  A* target;
  A* argmax;
};

}  // namespace

template <typename T>
void cross_entropy_stats(const CrossEntropyStatsArgs& args) {
  using A = Accumulator<T>;
  constexpr A kInfinity = std::numeric_limits<A>::infinity();
  const std::int64_t rows = args.logits.size(0), width = args.logits.size(1);
  const Stats<A> stats(args.stats);
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* logits = args.logits.data<T>() + row * width;
    const A maximum = max_over<A>(args.num_valid, -kInfinity,
                                  [logits](std::int64_t i) { return static_cast<A>(logits[i]); });
    const T* end = logits + args.num_valid;
    const T* first =
        std::find_if(logits, end, [maximum](T logit) { return static_cast<A>(logit) == maximum; });
    const std::int64_t target = args.targets.data<std::int32_t>()[row] - args.first_index;
    stats.maximum[row] = maximum;
    stats.sum[row] = sum_over<A>(args.num_valid, [=](std::int64_t i) {
      return exponential(static_cast<A>(logits[i]) - maximum);
    });
    stats.target[row] =
        target >= 0 && target < args.num_valid ? static_cast<A>(logits[target]) : A{0};
    stats.argmax[row] =
        first == end ? kInfinity : static_cast<A>(args.first_index + (first - logits));
  }
}

template <typename T>
void cross_entropy_rescale(const CrossEntropyRescaleArgs& args) {
  const Stats<T> stats(args.stats);
  const T* maximum = args.maximum.data<T>();
  for (std::int64_t row = 0; row < args.maximum.size(0); ++row) {
    if (stats.maximum[row] == maximum[row]) continue;
    // A rank without any valid column has -inf here, which becomes a factor of zero.
    stats.sum[row] *= exponential(stats.maximum[row] - maximum[row]);
    stats.argmax[row] = std::numeric_limits<T>::infinity();
    stats.maximum[row] = maximum[row];
  }
}

template <typename T>
void cross_entropy_finish(const CrossEntropyFinishArgs& args) {
  using A = Accumulator<T>;
  const std::int64_t rows = args.logits.size(0), width = args.logits.size(1);
  const Stats<A> stats(args.stats);
  const std::int32_t* targets = args.targets.data<std::int32_t>();
  const A* weights = args.weights.data<A>();
  double* totals = args.totals.data<double>();
  for (std::int64_t row = 0; row < rows; ++row) {  // in order: cheap beside the gradient
    if (weights[row] == 0) continue;               // also if the loss there is not finite
    const A loss = stats.maximum[row] + std::log(stats.sum[row]) - stats.target[row];
    const double weight = static_cast<double>(weights[row]);
    totals[0] += weight * static_cast<double>(loss);
    if (stats.argmax[row] == static_cast<A>(targets[row])) totals[1] += weight;
  }
  if (!args.write_gradient) return;
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t row = 0; row < rows; ++row) {
    T* logits = args.logits.data<T>() + row * width;
    if (weights[row] == 0) {
      std::fill_n(logits, width, T{});
      continue;
    }
    const A maximum = stats.maximum[row];
    const A scale = weights[row] / stats.sum[row];
    const std::int64_t target = targets[row] - args.first_index;
    // One rounding also at the target, where weight is subtracted.
    const bool here = target >= 0 && target < args.num_valid;
    const A logit = here ? static_cast<A>(logits[target]) : A{0};
    for (std::int64_t i = 0; i < args.num_valid; ++i) {
      logits[i] = static_cast<T>(scale * exponential(static_cast<A>(logits[i]) - maximum));
    }
    if (here) logits[target] = static_cast<T>(scale * exponential(logit - maximum) - weights[row]);
    std::fill(logits + args.num_valid, logits + width, T{});
  }
}

template void cross_entropy_stats<float>(const CrossEntropyStatsArgs&);
template void cross_entropy_stats<bfloat16>(const CrossEntropyStatsArgs&);
template void cross_entropy_stats<double>(const CrossEntropyStatsArgs&);
template void cross_entropy_rescale<float>(const CrossEntropyRescaleArgs&);
template void cross_entropy_rescale<double>(const CrossEntropyRescaleArgs&);
template void cross_entropy_finish<float>(const CrossEntropyFinishArgs&);
template void cross_entropy_finish<bfloat16>(const CrossEntropyFinishArgs&);
template void cross_entropy_finish<double>(const CrossEntropyFinishArgs&);

}  // namespace ringtrain::cpu
