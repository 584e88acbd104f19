// Normal numbers from a counter: one thread per philox block, which makes four of them. Bound by
// the double-precision logarithm and sincos; run once, at initialisation.
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/random.h"
#include "ringtrain/kernels/random_normal.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    random_normal_kernel(const __grid_constant__ RandomNormalArgs args) {
  constexpr double kTwoPi = 6.283185307179586476925;
  constexpr double kScale = 1.0 / 4294967296.0;
  const std::int64_t block =
      args.first_counter / 4 + std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const auto words = philox4x32(args.key, static_cast<std::uint64_t>(block));
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const double radius = sqrt(-2.0 * log((words[2 * pair] + 0.5) * kScale));
    double sine;
    double cosine;
    sincos(kTwoPi * ((words[2 * pair + 1] + 0.5) * kScale), &sine, &cosine);
    const std::int64_t at = 4 * block + 2 * pair - args.first_counter;
    if (at >= 0 && at < args.elements) {
      args.out[at] = static_cast<float>(args.stddev * radius * cosine);
    }
    if (at + 1 >= 0 && at + 1 < args.elements) {
      args.out[at + 1] = static_cast<float>(args.stddev * radius * sine);
    }
  }
}

}  // namespace

void launch_random_normal(const RandomNormalArgs& args, cudaStream_t stream) {
  if (args.elements == 0) return;
  const std::int64_t first = args.first_counter / 4;
  const std::int64_t last = (args.first_counter + args.elements - 1) / 4;
  const auto blocks = static_cast<unsigned>((last - first + kThreads) / kThreads);
  random_normal_kernel<<<blocks, kThreads, 0, stream>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
