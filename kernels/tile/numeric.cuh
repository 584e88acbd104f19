#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <bit>
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

/// Neighbouring elements, moved in one access.
template <typename T, int kPack>
struct alignas(kPack * sizeof(T)) Pack {
  T at[kPack];
};

/// A word of so many bytes, as the hardware moves it.
template <std::size_t kBytes>
using WordOf = std::conditional_t<
    kBytes == 16, uint4,
    std::conditional_t<kBytes == 8, uint2,
                       std::conditional_t<kBytes == 4, unsigned, unsigned short>>>;

/// Moves an object of up to 16 bytes (a power of two) that nobody needs again before long
/// (ld.global.cs, st.global.cs).
template <typename P>
__device__ P load_once(const P* from) {
  using Word = WordOf<sizeof(P)>;
  return std::bit_cast<P>(__ldcs(reinterpret_cast<const Word*>(from)));
}
template <typename P>
__device__ void store_once(P* to, const P& value) {
  using Word = WordOf<sizeof(P)>;
  __stcs(reinterpret_cast<Word*>(to), std::bit_cast<Word>(value));
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
