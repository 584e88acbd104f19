#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <string>

#include "ringtrain/core/dtype.h"
#include "ringtrain/core/error.h"

/// Element types on the device and packs of four of them.
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

/// True if rows of `row_elements` at each of the pointers may be read as Pack<T, 4>.
template <typename... Pointers>
bool packs_of_four(std::int64_t row_elements, std::size_t element_bytes, Pointers... pointers) {
  const auto aligned = [&](const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer) % (4 * element_bytes) == 0;
  };
  return row_elements % 4 == 0 && (aligned(pointers) && ...);
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
