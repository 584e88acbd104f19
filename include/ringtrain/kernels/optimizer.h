#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ringtrain/core/dtype.h"

namespace ringtrain::kernels {

struct AdamWArgs {
  float* param;         // [elements]
  const float* grad;    // [elements]
  const float* factor;  // [2], element 1 multiplies the gradient
  void* m;              // [elements] m_dtype
  float* v;             // [elements]
  void* weights;        // [elements] weights_dtype: the new param, rounded; or null
  std::int64_t elements;
  DType m_dtype;        // fp32 or bf16
  DType weights_dtype;  // fp32 or bf16
  double learning_rate, b1, b2, eps, weight_decay;
  std::int64_t step;  // 1 for the first update
};
void launch_adamw(const AdamWArgs& args, cudaStream_t stream);

struct AdafactorArgs {
  float* param;                // [elements]
  const float* grad;           // [elements]
  const float* factor;         // [2]
  void* m;                     // [elements] m_dtype
  float* v;                    // [elements]
  const std::int64_t* ranges;  // [num_ranges, 4]: begin, end, tensor index, counted
  const double* param_sums;    // [num_tensors]
  const double* param_counts;  // [num_tensors]
  std::int64_t num_ranges;
  DType m_dtype;
  double learning_rate, b1, decay_rate, weight_decay;
  std::int64_t step;  // 0 for the first update
};
void launch_adafactor(const AdafactorArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
