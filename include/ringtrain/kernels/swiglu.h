#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ringtrain/core/dtype.h"

namespace ringtrain::kernels {

struct SwigluArgs {
  const void* gate_up;  // [rows, 2 width] compute: gate, then up
  void* out;            // [rows, width] compute
  std::int64_t rows;
  std::int64_t width;
  DType compute;
};
void launch_swiglu(const SwigluArgs& args, cudaStream_t stream);

struct SwigluBackwardArgs {
  const void* gate_up;  // [rows, 2 width] compute
  const void* dout;     // [rows, width] compute
  void* dgate_up;       // [rows, 2 width] compute; may be gate_up
  std::int64_t rows;
  std::int64_t width;
  DType compute;
};
void launch_swiglu_backward(const SwigluBackwardArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
