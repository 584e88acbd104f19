#include <cmath>
#include <numbers>

#include "ringtrain/core/random.h"
#include "ringtrain/ops/cpu/operations.h"
#include "scalar.h"

namespace ringtrain::cpu {
namespace {

/// In (0, 1), never 0: its logarithm is finite.
double uniform(std::uint32_t word) {
  return (static_cast<double>(word) + 0.5) / 4294967296.0;
}

double normal(std::uint64_t key, std::int64_t element) {
  const auto words = philox4x32(key, static_cast<std::uint64_t>(element / 4));
  const std::size_t pair = static_cast<std::size_t>(element % 4 / 2) * 2;
  const double radius = std::sqrt(-2 * std::log(uniform(words[pair])));
  const double angle = 2 * std::numbers::pi * uniform(words[pair + 1]);
  return radius * (element % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

}  // namespace

template <typename T>
void random_normal(const RandomNormalArgs& args) {
  T* out = args.out.data<T>();
  const std::int64_t count = args.out.num_elements();
#pragma omp parallel for if (worth_threads(count))
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<T>(args.stddev * normal(args.key, args.first_counter + i));
  }
}

template void random_normal<float>(const RandomNormalArgs&);
template void random_normal<double>(const RandomNormalArgs&);

}  // namespace ringtrain::cpu
