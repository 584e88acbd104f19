// delta = out . dout over head_dim. A group of lanes takes a row of a (batch, token, head), each
// lane a pack of it; memory-bound (ringtrain bench membound).
#include <bit>

#include "kernels/tile/numeric.cuh"
#include "kernels/tile/reduce.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/attention.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;

/// `lanes`: threads of a group, a power of two up to a warp.
template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    attention_delta_kernel(const __grid_constant__ AttentionDeltaArgs args, int lanes) {
  using P = Pack<T, kPack>;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const std::int64_t row =
      std::int64_t{blockIdx.x} * (kThreads / lanes) + static_cast<int>(threadIdx.x) / lanes;
  const bool inside = row < args.batch * args.tokens * args.heads;
  const T* out = static_cast<const T*>(args.out) + row * args.head_dim;
  const T* dout = static_cast<const T*>(args.dout) + row * args.head_dim;
  float sum = 0.0f;
  for (int i = lane * kPack; inside && i < args.head_dim; i += lanes * kPack) {
    const auto x = unpack(*reinterpret_cast<const P*>(out + i));
    const auto y = unpack(*reinterpret_cast<const P*>(dout + i));
#pragma unroll
    for (int e = 0; e < kPack; ++e) sum += x.at[e] * y.at[e];
  }
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  }
  if (lane != 0 || !inside) return;
  const std::int64_t head = row % args.heads;
  const std::int64_t token = row / args.heads % args.tokens;
  const std::int64_t batch = row / args.heads / args.tokens;
  args.delta[(batch * args.heads + head) * args.tokens + token] = sum;
}

}  // namespace

void launch_attention_delta(const AttentionDeltaArgs& args, cudaStream_t stream) {
  const std::int64_t rows = args.batch * args.tokens * args.heads;
  if (rows == 0) return;
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    with_widest_pack<T>(args.head_dim, {args.out, args.dout}, [&](auto pack) {
      const unsigned packs = static_cast<unsigned>(args.head_dim) / pack;
      const auto lanes = static_cast<int>(std::min<unsigned>(std::bit_ceil(packs), kWarpSize));
      const std::int64_t rows_of_block = kThreads / lanes;
      const auto blocks = static_cast<unsigned>((rows + rows_of_block - 1) / rows_of_block);
      attention_delta_kernel<T, pack><<<blocks, kThreads, 0, stream>>>(args, lanes);
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
