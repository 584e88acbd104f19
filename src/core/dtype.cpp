#include "ringtrain/core/dtype.h"

#include <array>
#include <cmath>
#include <string>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

struct DTypeInfo {
  std::string_view name;
  std::size_t bytes;
};
// In the order of the enumeration.
constexpr std::array<DTypeInfo, 6> kInfo{
    {{"fp32", 4}, {"fp64", 8}, {"bf16", 2}, {"fp16", 2}, {"int32", 4}, {"int64", 8}}};

}  // namespace

std::size_t size_of(DType dtype) {
  return kInfo[static_cast<std::size_t>(dtype)].bytes;
}

std::string_view name_of(DType dtype) {
  return kInfo[static_cast<std::size_t>(dtype)].name;
}

DType dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kInfo.size(); ++i) {
    if (kInfo[i].name == name) return static_cast<DType>(i);
  }
  throw InvalidArgument("unknown dtype '" + std::string(name) +
                        "'; one of fp32, fp64, bf16, fp16, int32, int64");
}

float float_from_half(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {  // zero and subnormals: mantissa x 2^-24
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

std::uint16_t half_from_float(float value) {
  const auto word = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((word >> 16) & 0x8000u);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 65520.0f) return static_cast<std::uint16_t>(sign | 0x7c00u);
  if (magnitude < 6.103515625e-05f) {  // below 2^-14: subnormal, in units of 2^-24
    const auto units = static_cast<std::uint16_t>(std::lrint(std::ldexp(magnitude, 24)));
    return static_cast<std::uint16_t>(sign | units);
  }
  const std::uint32_t rounded = (word & 0x7fffffffu) + 0xfffu + ((word >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}

}  // namespace ringtrain
