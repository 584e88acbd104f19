#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ringtrain/core/dtype.h"

namespace ringtrain::kernels {

struct RmsNormArgs {
  const void* x;       // [rows, width] compute
  const void* weight;  // [width] compute
  void* out;           // [rows, width] compute
  float* rstd;         // [rows]
  std::int64_t rows;
  std::int64_t width;
  float eps;
  DType compute;
};
void launch_rms_norm(const RmsNormArgs& args, cudaStream_t stream);

struct RmsNormBackwardArgs {
  const void* dout;    // [rows, width] compute
  const void* x;       // [rows, width] compute
  const void* weight;  // [width] compute
  const float* rstd;   // [rows]
  void* dx;            // [rows, width] compute, added to
  float* dweight;      // [width], added to
  float* partials;     // [partial_rows, width] scratch: one row of sums per block
  std::int64_t partial_rows;
  std::int64_t rows;
  std::int64_t width;
  DType compute;
};
void launch_rms_norm_backward(const RmsNormBackwardArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
