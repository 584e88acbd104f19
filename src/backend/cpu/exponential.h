#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "scalar.h"

namespace ringtrain::cpu {

/// e^x within 2 ulp, without a branch or a call, so that loops over it vectorise. -inf gives 0,
/// results below the smallest normal number are 0, overflow is inf, NaN stays NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor series: the first omitted term,
/// r^8 / 8!, is below 6e-9.
inline float exponential(float x) {
  constexpr float kSmallest = -87.33654f;  // ln of the smallest normal number
  constexpr float kLargest = 89.0f;        // e^x overflows from 88.72284 on
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;  // few bits: n times it is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 x 2^23: adding it leaves an integer in the low bits
  const float above = select(x < kSmallest, kSmallest, x);
  const float y = select(above > kLargest, kLargest, above);
  const float shifted = y * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (y - n * kLn2High) - n * kLn2Low;
  float series = 1.0f / 5040;
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  // 2^n in two factors, because n reaches 128, which no exponent holds.
  const auto bits = std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(kRound);
  const auto half = static_cast<std::uint32_t>(static_cast<std::int32_t>(bits) >> 1);
  const float scale0 = std::bit_cast<float>((half + 127u) << 23);
  const float scale1 = std::bit_cast<float>((bits - half + 127u) << 23);
  return select(x < kSmallest, 0.0f, series * scale0 * scale1);
}

inline double exponential(double x) {
  return std::exp(x);
}

}  // namespace ringtrain::cpu
