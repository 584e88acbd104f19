#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"

namespace ringtrain {

/// The function of the CUDA driver of that name as of CUDA 12.0. Found through the runtime, so that
/// the program starts on machines without a driver. Errors: DeviceError if the driver has none.
template <typename Function>
Function driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  RT_CUDA_CHECK(
      cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found));
#else
  RT_CUDA_CHECK(cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found));
#endif
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw DeviceError(fmt::format("the CUDA driver has no {}; it must be 12.0 or later", name));
  }
  return reinterpret_cast<Function>(function);
}

/// Errors: DeviceError "<call> failed: CUDA error <number>" unless `status` is success.
inline void check_driver(CUresult status, const char* call) {
  if (status == CUDA_SUCCESS) return;
  throw DeviceError(fmt::format("{} failed: CUDA error {}", call, static_cast<int>(status)));
}

/// An address of this process as the driver counts it.
inline CUdeviceptr driver_address(const void* address) {
  return reinterpret_cast<CUdeviceptr>(address);
}

}  // namespace ringtrain
