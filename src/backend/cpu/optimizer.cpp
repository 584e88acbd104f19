#include <algorithm>
#include <cmath>
#include <vector>

#include "ringtrain/ops/cpu/operations.h"
#include "scalar.h"

namespace ringtrain::cpu {
namespace {

/// A row of SumOfSquaresArgs::ranges.
struct Range {
  std::int64_t begin, end, tensor, counted;
};
static_assert(sizeof(Range) == 4 * sizeof(std::int64_t));

const Range* ranges_of(const Tensor& ranges) {
  return reinterpret_cast<const Range*>(ranges.data<std::int64_t>());
}

/// The moment b1 m + (1 - b1) x: stored in M, returned before it is rounded. In bf16 the product
/// b1 m is rounded too, since optax multiplies before it widens.
template <typename T, typename M>
T updated_moment(M& m, T b1, T one_minus_b1, T x) {
  T decayed = b1 * static_cast<Accumulator<M>>(m);
  if constexpr (std::is_same_v<M, bfloat16>) {
    decayed = static_cast<float>(bfloat16(static_cast<float>(decayed)));
  }
  const T moment = decayed + one_minus_b1 * x;
  m = static_cast<M>(static_cast<Accumulator<M>>(moment));
  return moment;
}

/// b1 as it multiplies a moment stored in M.
template <typename T, typename M>
T moment_decay(double b1) {
  if constexpr (std::is_same_v<M, bfloat16>) {
    return static_cast<float>(bfloat16(static_cast<float>(b1)));
  }
  return static_cast<T>(b1);
}

template <typename T, typename M>
void adamw_with_moment(const AdamWArgs& args) {
  const std::int64_t count = args.param.num_elements();
  const auto t = static_cast<double>(args.step);
  const T b1 = moment_decay<T, M>(args.b1), b2 = static_cast<T>(args.b2);
  const T rest1 = static_cast<T>(1 - args.b1), rest2 = static_cast<T>(1 - args.b2);
  const T correction1 = static_cast<T>(1 - std::pow(args.b1, t));
  const T correction2 = static_cast<T>(1 - std::pow(args.b2, t));
  const T rate = static_cast<T>(args.learning_rate), eps = static_cast<T>(args.eps);
  const T decay = static_cast<T>(args.weight_decay);
  const T factor = args.factor.data<T>()[1];
  T* param = args.param.data<T>();
  const T* grad = args.grad.data<T>();
  M* m = args.m.data<M>();
  T* v = args.v.data<T>();
#pragma omp parallel for if (worth_threads(count))
  for (std::int64_t i = 0; i < count; ++i) {
    const T g = grad[i] * factor;
    const T moment = updated_moment(m[i], b1, rest1, g);
    v[i] = b2 * v[i] + rest2 * g * g;
    const T step = moment / correction1 / (std::sqrt(v[i] / correction2) + eps);
    param[i] -= rate * (step + decay * param[i]);
  }
}

template <typename T, typename M>
void adafactor_with_moment(const AdafactorArgs& args) {
  constexpr double kSmallestScale = 1e-3;
  const double decay_rate = 1 - std::pow(static_cast<double>(args.step) + 1, -args.decay_rate);
  const T keep = static_cast<T>(decay_rate), rest = static_cast<T>(1 - decay_rate);
  const T b1 = moment_decay<T, M>(args.b1), rest1 = static_cast<T>(1 - args.b1);
  const T decay = static_cast<T>(args.weight_decay);
  const T factor = args.factor.data<T>()[1];
  T* param = args.param.data<T>();
  const T* grad = args.grad.data<T>();
  M* m = args.m.data<M>();
  T* v = args.v.data<T>();
  for (std::int64_t r = 0; r < args.ranges.size(0); ++r) {
    const Range& range = ranges_of(args.ranges)[r];
    const double mean_square = args.param_sums.data<double>()[range.tensor] /
                               args.param_counts.data<double>()[range.tensor];
    const T rate =
        static_cast<T>(args.learning_rate * std::max(kSmallestScale, std::sqrt(mean_square)));
#pragma omp parallel for if (worth_threads(range.end - range.begin))
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const T g = grad[i] * factor;
      v[i] = keep * v[i] + rest * (g * g + static_cast<T>(1e-30));
      const T moment = updated_moment(m[i], b1, rest1, rate * g / std::sqrt(v[i]));
      param[i] -= moment + decay * param[i];
    }
  }
}

}  // namespace

template <typename T>
void sum_of_squares(const SumOfSquaresArgs& args) {
  constexpr std::int64_t kChunk = 4096;
  const T* x = args.x.data<T>();
  std::vector<double> partial_sums;
  for (std::int64_t r = 0; r < args.ranges.size(0); ++r) {
    const Range& range = ranges_of(args.ranges)[r];
    if (range.counted == 0 || range.end <= range.begin) continue;
    const std::int64_t chunks = (range.end - range.begin + kChunk - 1) / kChunk;
    partial_sums.assign(static_cast<std::size_t>(chunks), 0);
#pragma omp parallel for if (worth_threads(range.end - range.begin))
    for (std::int64_t c = 0; c < chunks; ++c) {
      const T* chunk = x + range.begin + c * kChunk;
      const std::int64_t count = std::min(kChunk, range.end - range.begin - c * kChunk);
      partial_sums[static_cast<std::size_t>(c)] = sum_over<double>(count, [chunk](std::int64_t i) {
        return static_cast<double>(chunk[i]) * static_cast<double>(chunk[i]);
      });
    }
    double& sum = args.sums.data<double>()[range.tensor];
    for (const double partial : partial_sums) sum += partial;
  }
}

template <typename T>
void clip_scale(const ClipScaleArgs& args) {
  const double* sums = args.sums.data<double>();
  double squares = 0;
  for (std::int64_t i = 0; i < args.sums.size(0); ++i) squares += sums[i];
  const double norm = std::sqrt(squares) * args.scale;
  // Written so that a NaN norm gives a NaN factor.
  const double clip = norm <= args.max_norm ? 1 : args.max_norm / norm;
  args.out.data<T>()[0] = static_cast<T>(norm);
  args.out.data<T>()[1] = static_cast<T>(args.scale * clip);
}

template <typename T>
void adamw(const AdamWArgs& args) {
  if (args.m.dtype() == DType::kBFloat16) {
    adamw_with_moment<T, bfloat16>(args);
  } else {
    adamw_with_moment<T, T>(args);
  }
  if (args.weights) cast(args.param, args.weights);
}

template <typename T>
void adafactor(const AdafactorArgs& args) {
  if (args.m.dtype() == DType::kBFloat16) {
    adafactor_with_moment<T, bfloat16>(args);
  } else {
    adafactor_with_moment<T, T>(args);
  }
}

template void sum_of_squares<float>(const SumOfSquaresArgs&);
template void sum_of_squares<double>(const SumOfSquaresArgs&);
template void clip_scale<float>(const ClipScaleArgs&);
template void clip_scale<double>(const ClipScaleArgs&);
template void adamw<float>(const AdamWArgs&);
template void adamw<double>(const AdamWArgs&);
template void adafactor<float>(const AdafactorArgs&);
template void adafactor<double>(const AdafactorArgs&);

}  // namespace ringtrain::cpu
