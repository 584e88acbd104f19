#include "fill_normal.h"
#include "ringtrain/backend/cuda_check.h"

namespace ringtrain::bench {
namespace {

__global__ void fill_normal_kernel(__nv_bfloat16* out, std::size_t size, std::uint32_t seed,
                                   float scale) {
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += step) {
    std::uint32_t word = static_cast<std::uint32_t>(i) * 2654435761u + seed * 40503u + 1;
    const auto next = [&] {
      word ^= word >> 16;
      word *= 0x7feb352du;
      word ^= word >> 15;
      word *= 0x846ca68bu;
      word ^= word >> 16;
      return (static_cast<float>(word >> 8) + 0.5f) * (1.0f / 16777216.0f);
    };
    const float radius = sqrtf(-2.0f * logf(next()));
    out[i] = __float2bfloat16_rn(scale * radius * cospif(2.0f * next()));
  }
}

}  // namespace

void fill_normal(__nv_bfloat16* out, std::size_t size, std::uint32_t seed, float scale) {
  fill_normal_kernel<<<1024, 256>>>(out, size, seed, scale);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::bench
