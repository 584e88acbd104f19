#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ringtrain::kernels {

struct RandomNormalArgs {
  float* out;  // [elements]
  std::int64_t elements;
  std::uint64_t key;
  std::int64_t first_counter;
  double stddev;
};
void launch_random_normal(const RandomNormalArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
