#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "ringtrain/core/dtype.h"
#include "ringtrain/core/error.h"

/// Element types on the device, and packs of neighbours.
namespace ringtrain::kernels {

using bf16 = __nv_bfloat16;

__device__ inline float to_float(float value) {
  return value;
}
__device__ inline float to_float(bf16 value) {
  return __bfloat162float(value);
}
/// Rounds to nearest even.
template <typename T>
__device__ inline T from_float(float value) {
  if constexpr (sizeof(T) == 2) {
    return __float2bfloat16_rn(value);
  } else {
    return value;
  }
}

/// The halves of two packed bf16: a shift and a mask.
__device__ inline float low_float(std::uint32_t packed) {
  return __uint_as_float(packed << 16);
}
__device__ inline float high_float(std::uint32_t packed) {
  return __uint_as_float(packed & 0xFFFF0000u);
}

/// Neighbouring elements, moved in one access.
template <typename T, int kPack>
struct alignas(kPack * sizeof(T)) Pack {
  T at[kPack];
};

/// The elements of a pack as floats; of bf16 by words, one instruction each.
template <typename T, int kPack>
__device__ Pack<float, kPack> unpack(const Pack<T, kPack>& pack) {
  Pack<float, kPack> values;
  if constexpr (sizeof(T) == 2 && kPack % 2 == 0) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(&pack);
#pragma unroll
    for (int i = 0; i < kPack / 2; ++i) {
      values.at[2 * i] = low_float(words[i]);
      values.at[2 * i + 1] = high_float(words[i]);
    }
  } else {
#pragma unroll
    for (int e = 0; e < kPack; ++e) values.at[e] = to_float(pack.at[e]);
  }
  return values;
}

/// Rounds each to T, to nearest even.
template <typename T, int kPack>
__device__ Pack<T, kPack> pack_as(const Pack<float, kPack>& values) {
  Pack<T, kPack> pack;
  if constexpr (sizeof(T) == 2 && kPack % 2 == 0) {
    auto* pairs = reinterpret_cast<__nv_bfloat162*>(&pack);
#pragma unroll
    for (int i = 0; i < kPack / 2; ++i) {
      pairs[i] = __floats2bfloat162_rn(values.at[2 * i], values.at[2 * i + 1]);
    }
  } else {
#pragma unroll
    for (int e = 0; e < kPack; ++e) pack.at[e] = from_float<T>(values.at[e]);
  }
  return pack;
}

/// Elements of T in the widest access of a thread: 16 bytes.
template <typename T>
inline constexpr int kWidestPack = 16 / sizeof(T);

/// True if rows of `row_elements` at each of the pointers may be read as Pack<T, kPack>.
template <typename T, int kPack>
bool is_packable(std::int64_t row_elements, std::initializer_list<const void*> pointers) {
  return row_elements % kPack == 0 &&
         std::all_of(pointers.begin(), pointers.end(), [](const void* pointer) {
           return reinterpret_cast<std::uintptr_t>(pointer) % (kPack * sizeof(T)) == 0;
         });
}

/// Calls body(std::integral_constant<int, kPack>{}) with the widest packs that rows of
/// `row_elements` at each of the pointers may be read as.
template <typename T, int kPack = kWidestPack<T>, typename Body>
void with_widest_pack(std::int64_t row_elements, std::initializer_list<const void*> pointers,
                      Body&& body) {
  if constexpr (kPack > 1) {
    if (!is_packable<T, kPack>(row_elements, pointers)) {
      return with_widest_pack<T, kPack / 2>(row_elements, pointers, body);
    }
  }
  body(std::integral_constant<int, kPack>{});
}

/// Calls body(T{}) with the device type of a compute dtype.
template <typename Body>
void with_compute_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kFloat32:
      return body(float{});
    case DType::kBFloat16:
      return body(bf16{});
    default:
      throw InvalidArgument("kernels compute in fp32 or bf16, not " + std::string(name_of(dtype)));
  }
}

}  // namespace ringtrain::kernels
