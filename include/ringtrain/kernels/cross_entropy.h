#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ringtrain/core/dtype.h"

namespace ringtrain::kernels {

/// The rows of `stats` are as in ops/backend.h: maximum, sum of exponentials, target, argmax.
struct CrossEntropyStatsArgs {
  const void* logits;           // [rows, width] compute
  const std::int32_t* targets;  // [rows]
  float* stats;                 // [4, rows]
  std::int64_t rows;
  std::int64_t width;
  std::int64_t num_valid;  // columns that take part
  std::int64_t first_index;
  DType compute;
};
void launch_cross_entropy_stats(const CrossEntropyStatsArgs& args, cudaStream_t stream);

struct CrossEntropyRescaleArgs {
  float* stats;          // [4, rows], in place
  const float* maximum;  // [rows]
  std::int64_t rows;
};
void launch_cross_entropy_rescale(const CrossEntropyRescaleArgs& args, cudaStream_t stream);

struct CrossEntropyFinishArgs {
  void* logits;                 // [rows, width] compute, overwritten if write_gradient
  const std::int32_t* targets;  // [rows]
  const float* weights;         // [rows]
  const float* stats;           // [4, rows]
  double* totals;               // [2], added to
  double* partials;             // [2 * kCrossEntropyPartials] scratch
  std::int64_t rows;
  std::int64_t width;
  std::int64_t num_valid;
  std::int64_t first_index;
  bool write_gradient;
  DType compute;
};
inline constexpr int kCrossEntropyPartials = 256;
void launch_cross_entropy_finish(const CrossEntropyFinishArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
