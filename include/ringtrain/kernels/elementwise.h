#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ringtrain/core/dtype.h"

/// Launchers of the CUDA back end: raw device pointers, checked by the caller. Every launcher
/// enqueues on `stream` and returns without waiting; an empty problem launches nothing.
/// Errors: DeviceError if a launch is refused.
namespace ringtrain::kernels {

struct FillArgs {
  void* out;
  std::int64_t elements;
  DType dtype;
  double value;  // rounded to dtype
};
void launch_fill(const FillArgs& args, cudaStream_t stream);

struct ConvertArgs {
  const void* in;  // [elements] fp32 or bf16
  void* out;       // [elements] fp32 or bf16
  std::int64_t elements;
  DType in_dtype;
  DType out_dtype;
};
/// out = in.
void launch_cast(const ConvertArgs& args, cudaStream_t stream);
/// out += in in fp32.
void launch_add(const ConvertArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
