#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ringtrain {

/// Element types of tensors. kFloat16 appears in files only, never in a computation.
enum class DType : std::uint8_t { kFloat32, kFloat64, kBFloat16, kFloat16, kInt32, kInt64 };

/// Bytes of one element.
std::size_t size_of(DType dtype);
/// "fp32", "fp64", "bf16", "fp16", "int32", "int64": the names flags and messages use.
std::string_view name_of(DType dtype);
/// Inverse of name_of. Errors: InvalidArgument listing the names.
DType dtype_from_name(std::string_view name);

/// bfloat16 as storage: the upper half of a float, rounded to nearest even; NaN stays NaN.
struct bfloat16 {
  std::uint16_t bits = 0;

  constexpr bfloat16() = default;
  constexpr explicit bfloat16(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    const bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;
    bits = is_nan ? static_cast<std::uint16_t>((word >> 16) | 0x40u)
                  : static_cast<std::uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
  }
  constexpr explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};
static_assert(sizeof(bfloat16) == 2);

/// IEEE binary16 bits to float; used when reading checkpoints.
float float_from_half(std::uint16_t bits);
/// float to IEEE binary16 bits, nearest even, overflow to infinity; used when writing checkpoints.
std::uint16_t half_from_float(float value);

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct DTypeOf<bfloat16> {
  static constexpr DType value = DType::kBFloat16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::kInt64;
};
/// The DType of a C++ element type.
template <typename T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace ringtrain
