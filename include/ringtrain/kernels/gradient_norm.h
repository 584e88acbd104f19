#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ringtrain::kernels {

struct SumOfSquaresArgs {
  const float* x;
  const std::int64_t* ranges;  // [num_ranges, 4]: begin, end, tensor index, counted
  double* sums;                // [num_tensors], added to
  double* partials;            // [num_ranges, slices] scratch
  std::int64_t num_ranges;
  std::int64_t num_tensors;
  int slices;  // blocks that share a range
};
void launch_sum_of_squares(const SumOfSquaresArgs& args, cudaStream_t stream);

struct ClipScaleArgs {
  const double* sums;  // [num_tensors]
  float* out;          // [2]: norm, factor
  std::int64_t num_tensors;
  double scale;
  double max_norm;
};
void launch_clip_scale(const ClipScaleArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
