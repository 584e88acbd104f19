#include "gemm_reference.h"
#include "ringtrain/backend/cuda_check.h"

namespace ringtrain::bench {
namespace {

/// One thread an element.
__global__ void product_kernel(const __grid_constant__ ProductArgs args) {
  const std::int64_t n = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t m = blockIdx.y;
  if (n >= args.n) return;
  double sum = 0;
  for (std::int64_t k = 0; k < args.k; ++k) {
    const __nv_bfloat16 a = args.a[args.transpose_a ? k * args.m + m : m * args.k + k];
    const __nv_bfloat16 b = args.b[args.transpose_b ? n * args.k + k : k * args.n + n];
    sum += static_cast<double>(__bfloat162float(a)) * static_cast<double>(__bfloat162float(b));
  }
  args.out[m * args.n + n] = sum;
}

}  // namespace

void run_reference_product(const ProductArgs& args) {
  constexpr unsigned kThreads = 128;
  const dim3 grid(static_cast<unsigned>((args.n + kThreads - 1) / kThreads),
                  static_cast<unsigned>(args.m));
  product_kernel<<<grid, kThreads>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::bench
