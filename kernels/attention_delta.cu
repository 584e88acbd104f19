// delta = out . dout over head_dim: one warp per (batch, token, head); memory-bound.
#include "kernels/tile/numeric.cuh"
#include "kernels/tile/reduce.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/attention.h"

namespace ringtrain::kernels {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    attention_delta_kernel(const __grid_constant__ AttentionDeltaArgs args) {
  using P = Pack<T, kPack>;
  const int lane = threadIdx.x % kWarpSize;
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (row >= args.batch * args.tokens * args.heads) return;
  const T* out = static_cast<const T*>(args.out) + row * args.head_dim;
  const T* dout = static_cast<const T*>(args.dout) + row * args.head_dim;
  float sum = 0.0f;
  for (int i = lane * kPack; i < args.head_dim; i += kWarpSize * kPack) {
    const P x = *reinterpret_cast<const P*>(out + i);
    const P y = *reinterpret_cast<const P*>(dout + i);
#pragma unroll
    for (int e = 0; e < kPack; ++e) sum += to_float(x.at[e]) * to_float(y.at[e]);
  }
  sum = warp_reduce(sum, Sum{});
  if (lane != 0) return;
  const std::int64_t head = row % args.heads;
  const std::int64_t token = row / args.heads % args.tokens;
  const std::int64_t batch = row / args.heads / args.tokens;
  args.delta[(batch * args.heads + head) * args.tokens + token] = sum;
}

}  // namespace

void launch_attention_delta(const AttentionDeltaArgs& args, cudaStream_t stream) {
  const std::int64_t rows = args.batch * args.tokens * args.heads;
  if (rows == 0) return;
  const auto blocks = static_cast<unsigned>((rows + kWarps - 1) / kWarps);
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    const auto kernel = packs_of_four(args.head_dim, sizeof(T), args.out, args.dout)
                            ? attention_delta_kernel<T, 4>
                            : attention_delta_kernel<T, 1>;
    kernel<<<blocks, kThreads, 0, stream>>>(args);
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
