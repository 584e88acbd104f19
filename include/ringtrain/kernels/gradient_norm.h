#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ringtrain::kernels {

struct SumOfSquaresArgs {
  const float* x;              // [elements]
  const std::int64_t* ranges;  // [num_ranges, 4]: begin, end, tensor index, counted
  double* sums;                // [num_tensors], added to
  double* partials;            // [sum_of_squares_partials] scratch
  std::int64_t elements;
  std::int64_t num_ranges;  // which do not overlap
  std::int64_t num_tensors;
};
/// Elements whose squares one block sums.
inline constexpr std::int64_t kSumOfSquaresPiece = 1 << 15;
/// At most so many pieces have `num_ranges` ranges of `elements`.
constexpr std::int64_t sum_of_squares_partials(std::int64_t elements, std::int64_t num_ranges) {
  return elements / kSumOfSquaresPiece + num_ranges;
}
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
