#pragma once

#include <cstdint>
#include <type_traits>

#include "ringtrain/core/dtype.h"

namespace ringtrain::cpu {

/// What T is computed in, and the type of sums beside it: float, for double double.
template <typename T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T>
inline void widen(const T* in, Accumulator<T>* out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<Accumulator<T>>(in[i]);
}

template <typename T>
inline void narrow(const Accumulator<T>* in, T* out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(in[i]);
}

/// Whether an operation on so many elements gains by waking the other threads.
inline bool worth_threads(std::int64_t elements) {
  return elements >= std::int64_t{1} << 14;
}

/// Sum of term(0) .. term(count - 1) in a fixed order: sixteen interleaved partial sums, which
/// vectorise and round less than a running one.
template <typename A, typename Term>
inline A sum_over(std::int64_t count, Term&& term) {
  constexpr std::int64_t kLanes = 16;
  A lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  }
  for (; i < count; ++i) lanes[i % kLanes] += term(i);
  for (std::int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

}  // namespace ringtrain::cpu
