#pragma once

#include <bit>
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

/// condition ? a : b, by a mask: of the plain form the compiler makes a branch, because a floating
/// point comparison might trap, and then no vector loop.
inline float select(bool condition, float a, float b) {
  const std::uint32_t mask = condition ? ~0u : 0u;
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(a) & mask) |
                              (std::bit_cast<std::uint32_t>(b) & ~mask));
}

inline double select(bool condition, double a, double b) {
  return condition ? a : b;
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

/// The largest of `lowest` and term(0) .. term(count - 1); NaN terms are passed over.
template <typename A, typename Term>
inline A max_over(std::int64_t count, A lowest, Term&& term) {
  constexpr std::int64_t kLanes = 16;
  A lanes[kLanes];
  for (A& lane : lanes) lane = lowest;
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const A value = term(i + lane);
      lanes[lane] = select(value > lanes[lane], value, lanes[lane]);
    }
  }
  for (; i < count; ++i) lanes[0] = select(term(i) > lanes[0], term(i), lanes[0]);
  for (const A lane : lanes) lanes[0] = select(lane > lanes[0], lane, lanes[0]);
  return lanes[0];
}

}  // namespace ringtrain::cpu
