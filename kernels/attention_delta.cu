// delta = out . dout over head_dim. A group of lanes takes a row of a (batch, token, head), and
// kRows of them at a time, so that all their loads are in flight together; memory-bound (ringtrain
// bench membound).
#include <bit>

#include "kernels/tile/numeric.cuh"
#include "kernels/tile/reduce.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/attention.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 4;  // of a group

/// `lanes`: threads of a group, a power of two up to a warp.
template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    attention_delta_kernel(const __grid_constant__ AttentionDeltaArgs args, int lanes) {
  using P = Pack<T, kPack>;
  const int groups = kThreads / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const std::int64_t rows = args.batch * args.tokens * args.heads;
  const std::int64_t first =
      std::int64_t{blockIdx.x} * groups * kRows + static_cast<int>(threadIdx.x) / lanes;
  float sums[kRows] = {};
  for (int i = lane * kPack; i < args.head_dim; i += lanes * kPack) {
    P x[kRows];
    P y[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const std::int64_t row = first + r * groups;
      if (row >= rows) break;
      const std::int64_t at = row * args.head_dim + i;
      x[r] = *reinterpret_cast<const P*>(static_cast<const T*>(args.out) + at);
      y[r] = *reinterpret_cast<const P*>(static_cast<const T*>(args.dout) + at);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (first + r * groups >= rows) break;
#pragma unroll
      for (int e = 0; e < kPack; ++e) sums[r] += to_float(x[r].at[e]) * to_float(y[r].at[e]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      sums[r] += __shfl_xor_sync(0xffffffffu, sums[r], offset);
    }
    const std::int64_t row = first + r * groups;
    if (lane != 0 || row >= rows) continue;
    const std::int64_t head = row % args.heads;
    const std::int64_t token = row / args.heads % args.tokens;
    const std::int64_t batch = row / args.heads / args.tokens;
    args.delta[(batch * args.heads + head) * args.tokens + token] = sums[r];
  }
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
      const std::int64_t rows_of_block = kThreads / lanes * kRows;
      const auto blocks = static_cast<unsigned>((rows + rows_of_block - 1) / rows_of_block);
      attention_delta_kernel<T, pack><<<blocks, kThreads, 0, stream>>>(args, lanes);
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
