// Sums of squares per tensor, and the clipping factor made of them. Two stages: each range is cut
// into pieces of kPieceElements, for each of which a block leaves one double; one block per tensor
// adds what belongs to it, range after range. The pieces depend on the ranges alone, so the sums
// have the same bits on every GPU. Memory-bound in the first stage (ringtrain bench membound).
#include "kernels/tile/numeric.cuh"
#include "kernels/tile/reduce.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/gradient_norm.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;

/// A row of SumOfSquaresArgs::ranges.
struct Range {
  std::int64_t begin, end, tensor, counted;

  __device__ std::int64_t pieces() const {
    if (counted == 0 || end <= begin) return 0;
    return (end - begin + kSumOfSquaresPiece - 1) / kSumOfSquaresPiece;
  }
};

__device__ const Range* ranges_of(const SumOfSquaresArgs& args) {
  return reinterpret_cast<const Range*>(args.ranges);
}

__device__ double square(float x) {
  return double{x} * double{x};
}

/// Sum of squares of this thread's share of x[0, count).
__device__ double sum_of_piece(const float* x, int count) {
  using P = Pack<float, kWidestPack<float>>;
  constexpr int kPack = kWidestPack<float>;
  const int t = static_cast<int>(threadIdx.x);
  // Up to three elements before the first whole pack, and as many behind the last.
  const auto misplaced = static_cast<int>(reinterpret_cast<std::uintptr_t>(x) % sizeof(P) / 4);
  const int head = min(misplaced == 0 ? 0 : kPack - misplaced, count);
  const int packs = (count - head) / kPack;
  const P* whole = reinterpret_cast<const P*>(x + head);
  double sum = 0.0;
  if (t < head) sum += square(x[t]);
  for (int begin = 0; begin < packs; begin += kThreads * kUnroll) {
    P values[kUnroll] = {};
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = begin + u * kThreads + t;
      if (i < packs) values[u] = whole[i];
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
      for (int e = 0; e < kPack; ++e) sum += square(values[u].at[e]);
    }
  }
  const int tail = head + packs * kPack;
  if (tail + t < count) sum += square(x[tail + t]);
  return sum;
}

__global__ void __launch_bounds__(kThreads)
    sum_of_squares_kernel(const __grid_constant__ SumOfSquaresArgs args) {
  __shared__ double scratch[kThreads / kWarpSize];
  std::int64_t piece = blockIdx.x;
  std::int64_t range = 0;
  for (; range < args.num_ranges; ++range) {
    const std::int64_t pieces = ranges_of(args)[range].pieces();
    if (piece < pieces) break;
    piece -= pieces;
  }
  if (range == args.num_ranges) return;  // the grid counts one piece more than needed a range
  const Range r = ranges_of(args)[range];
  const std::int64_t begin = r.begin + piece * kSumOfSquaresPiece;
  const auto count = static_cast<int>(min(r.end - begin, kSumOfSquaresPiece));
  const double sum = block_reduce<kThreads>(sum_of_piece(args.x + begin, count), scratch, Sum{});
  if (threadIdx.x == 0) args.partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    sum_of_pieces_kernel(const __grid_constant__ SumOfSquaresArgs args) {
  __shared__ double scratch[kThreads / kWarpSize];
  const std::int64_t tensor = blockIdx.x;
  double sum = 0.0;
  std::int64_t first = 0;
  for (std::int64_t range = 0; range < args.num_ranges; ++range) {
    const Range r = ranges_of(args)[range];
    const std::int64_t pieces = r.pieces();
    if (r.tensor == tensor) {
#pragma unroll 4
      for (std::int64_t i = threadIdx.x; i < pieces; i += kThreads) sum += args.partials[first + i];
    }
    first += pieces;
  }
  sum = block_reduce<kThreads>(sum, scratch, Sum{});
  if (threadIdx.x == 0) args.sums[tensor] += sum;
}

__global__ void __launch_bounds__(kThreads)
    clip_scale_kernel(const __grid_constant__ ClipScaleArgs args) {
  __shared__ double scratch[kThreads / kWarpSize];
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < args.num_tensors; i += kThreads) sum += args.sums[i];
  sum = block_reduce<kThreads>(sum, scratch, Sum{});
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum) * args.scale;
  // Written so that a NaN norm gives a NaN factor.
  const double clip = norm <= args.max_norm ? 1.0 : args.max_norm / norm;
  args.out[0] = static_cast<float>(norm);
  args.out[1] = static_cast<float>(args.scale * clip);
}

}  // namespace

void launch_sum_of_squares(const SumOfSquaresArgs& args, cudaStream_t stream) {
  if (args.num_ranges == 0 || args.num_tensors == 0) return;
  const auto blocks =
      static_cast<unsigned>(sum_of_squares_partials(args.elements, args.num_ranges));
  sum_of_squares_kernel<<<blocks, kThreads, 0, stream>>>(args);
  sum_of_pieces_kernel<<<static_cast<unsigned>(args.num_tensors), kThreads, 0, stream>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_clip_scale(const ClipScaleArgs& args, cudaStream_t stream) {
  clip_scale_kernel<<<1, kThreads, 0, stream>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
