// Cross entropy over a vocabulary that may be spread over ranks. One block per row of logits,
// kUnroll packs of a thread in flight at a time. Memory-bound: the statistics read the logits once,
// the gradient reads and writes them once (ringtrain bench membound).
#include <algorithm>

#include "kernels/ptx/math.cuh"
#include "kernels/tile/numeric.cuh"
#include "kernels/tile/reduce.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/cross_entropy.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kUnroll = 2;

/// e^x by the hardware's 2^x, to about 2^-22 (1 + |x|).
__device__ float exponential(float x) {
  constexpr float kLog2e = 1.4426950408889634f;
  return ptx::ex2(x * kLog2e);
}

/// Running maximum, sum of exp(logit - maximum), and first column of the maximum.
struct Softmax {
  float maximum = -INFINITY;
  float sum = 0.0f;
  int column = 0x7fffffff;
};

struct Merge {
  __device__ Softmax operator()(const Softmax& a, const Softmax& b) const {
    Softmax r;
    r.maximum = fmaxf(a.maximum, b.maximum);
    if (r.maximum == -INFINITY) {  // neither side has seen a finite logit: 0, or NaN
      r.sum = a.sum + b.sum;
      return r;
    }
    r.sum = a.sum * expf(a.maximum - r.maximum) + b.sum * expf(b.maximum - r.maximum);
    r.column = a.maximum == b.maximum ? min(a.column, b.column)
                                      : (a.maximum > b.maximum ? a.column : b.column);
    return r;
  }
};

__device__ Softmax shuffle(const Softmax& value, int offset) {
  return {__shfl_xor_sync(0xffffffffu, value.maximum, offset),
          __shfl_xor_sync(0xffffffffu, value.sum, offset),
          __shfl_xor_sync(0xffffffffu, value.column, offset)};
}

/// Takes neighbouring logits from column `column` on into the state.
template <int kPack, typename T>
__device__ void take(Softmax& state, const Pack<T, kPack>& logits, int column) {
  float largest = to_float(logits.at[0]);
#pragma unroll
  for (int e = 1; e < kPack; ++e) largest = fmaxf(largest, to_float(logits.at[e]));
  if (largest > state.maximum) {  // strictly: the first column of equal logits stays
    state.sum *= exponential(state.maximum - largest);
    state.maximum = largest;
#pragma unroll
    for (int e = kPack - 1; e >= 0; --e) {
      if (to_float(logits.at[e]) == largest) state.column = column + e;
    }
  }
  const float shift = state.maximum == -INFINITY ? 0.0f : state.maximum;
#pragma unroll
  for (int e = 0; e < kPack; ++e) state.sum += exponential(to_float(logits.at[e]) - shift);
}

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_stats_kernel(const __grid_constant__ CrossEntropyStatsArgs args) {
  __shared__ Softmax of_warp[kWarps];
  const std::int64_t row = blockIdx.x;
  const T* logits = static_cast<const T*>(args.logits) + row * args.width;
  const int num_valid = static_cast<int>(args.num_valid);
  const int packs = num_valid / kPack;
  Softmax state;
  for (int begin = 0; begin < packs; begin += kThreads * kUnroll) {
    Pack<T, kPack> values[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = begin + u * kThreads + static_cast<int>(threadIdx.x);
      if (i >= packs) break;
      values[u] = reinterpret_cast<const Pack<T, kPack>*>(logits)[i];
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = begin + u * kThreads + static_cast<int>(threadIdx.x);
      if (i >= packs) break;
      take(state, values[u], i * kPack);
    }
  }
  for (int i = packs * kPack + static_cast<int>(threadIdx.x); i < num_valid; i += kThreads) {
    take(state, Pack<T, 1>{logits[i]}, i);
  }
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    state = Merge{}(state, shuffle(state, offset));
  }
  if (threadIdx.x % kWarpSize == 0) of_warp[threadIdx.x / kWarpSize] = state;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kWarps; ++warp) state = Merge{}(state, of_warp[warp]);
  const std::int64_t target = args.targets[row] - args.first_index;
  const bool here = target >= 0 && target < args.num_valid;
  args.stats[row] = state.maximum;
  args.stats[args.rows + row] = state.sum;
  args.stats[2 * args.rows + row] = here ? to_float(logits[target]) : 0.0f;
  args.stats[3 * args.rows + row] =
      state.sum > 0.0f ? static_cast<float>(args.first_index + state.column) : INFINITY;
}

__global__ void __launch_bounds__(kThreads)
    cross_entropy_rescale_kernel(const __grid_constant__ CrossEntropyRescaleArgs args) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= args.rows) return;
  float* stats = args.stats + row;
  const float own = stats[0];
  const float maximum = args.maximum[row];
  stats[0] = maximum;
  if (own == maximum) return;
  stats[args.rows] *= expf(own - maximum);
  stats[3 * args.rows] = INFINITY;
}

// Block b sums the rows b, b + gridDim.x, ... of {weight loss, weight correct}.
__global__ void __launch_bounds__(kThreads)
    cross_entropy_partials_kernel(const __grid_constant__ CrossEntropyFinishArgs args) {
  __shared__ double scratch[kWarps];
  double loss = 0.0;
  double correct = 0.0;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; row < args.rows;
       row += stride) {
    const float weight = args.weights[row];
    if (weight == 0.0f) continue;  // such a row may hold anything, also NaN
    const float* stats = args.stats + row;
    const float log_sum = logf(stats[args.rows]) + stats[0];
    loss += double{weight} * double{log_sum - stats[2 * args.rows]};
    if (stats[3 * args.rows] == static_cast<float>(args.targets[row])) correct += double{weight};
  }
  loss = block_reduce<kThreads>(loss, scratch, Sum{});
  correct = block_reduce<kThreads>(correct, scratch, Sum{});
  if (threadIdx.x == 0) {
    args.partials[2 * blockIdx.x] = loss;
    args.partials[2 * blockIdx.x + 1] = correct;
  }
}

// Thread 0 sums the losses, thread 1 the correct predictions.
__global__ void cross_entropy_totals_kernel(const double* partials, int count, double* totals) {
  double sum = 0.0;
  for (int i = 0; i < count; ++i) sum += partials[2 * i + threadIdx.x];
  totals[threadIdx.x] += sum;
}

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_gradient_kernel(const __grid_constant__ CrossEntropyFinishArgs args) {
  using P = Pack<T, kPack>;
  const std::int64_t row = blockIdx.x;
  P* logits = reinterpret_cast<P*>(static_cast<T*>(args.logits) + row * args.width);
  const float weight = args.weights[row];
  const float maximum = args.stats[row];
  const float scale = weight / args.stats[args.rows + row];
  const std::int64_t target = args.targets[row] - args.first_index;
  const int packs = static_cast<int>(args.width / kPack);
  const int num_valid = weight != 0.0f ? static_cast<int>(args.num_valid) : 0;
  for (int begin = 0; begin < packs; begin += kThreads * kUnroll) {
    P values[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = begin + u * kThreads + static_cast<int>(threadIdx.x);
      if (i >= packs) break;
      values[u] = logits[i];
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = begin + u * kThreads + static_cast<int>(threadIdx.x);
      if (i >= packs) break;
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        const int column = i * kPack + e;
        float gradient = scale * exponential(to_float(values[u].at[e]) - maximum);
        if (column == target) gradient -= weight;
        values[u].at[e] = from_float<T>(column < num_valid ? gradient : 0.0f);
      }
      logits[i] = values[u];
    }
  }
}

}  // namespace

void launch_cross_entropy_stats(const CrossEntropyStatsArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return;
  const auto rows = static_cast<unsigned>(args.rows);
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    with_widest_pack<T>(args.width, {args.logits}, [&](auto pack) {
      cross_entropy_stats_kernel<T, pack><<<rows, kThreads, 0, stream>>>(args);
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_cross_entropy_rescale(const CrossEntropyRescaleArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return;
  const auto blocks = static_cast<unsigned>((args.rows + kThreads - 1) / kThreads);
  cross_entropy_rescale_kernel<<<blocks, kThreads, 0, stream>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_cross_entropy_finish(const CrossEntropyFinishArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return;
  const auto partials = static_cast<int>(
      std::min<std::int64_t>((args.rows + kThreads - 1) / kThreads, kCrossEntropyPartials));
  cross_entropy_partials_kernel<<<static_cast<unsigned>(partials), kThreads, 0, stream>>>(args);
  cross_entropy_totals_kernel<<<1, 2, 0, stream>>>(args.partials, partials, args.totals);
  if (args.write_gradient) {
    const auto rows = static_cast<unsigned>(args.rows);
    with_compute_type(args.compute, [&](auto type) {
      using T = decltype(type);
      with_widest_pack<T>(args.width, {args.logits}, [&](auto pack) {
        cross_entropy_gradient_kernel<T, pack><<<rows, kThreads, 0, stream>>>(args);
      });
    });
  }
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
