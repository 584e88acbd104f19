// RMS normalisation. A block takes a row at a time; the first kHeld packs of each thread stay on
// the SM, in registers or in shared memory, and of longer rows the rest is read again. Backward: a
// fixed grid of blocks walks the rows, fetching the next while it works on one; it forms dx, and
// sums its share of dweight in fp32 over its rows in order; a second kernel adds the blocks' sums
// in order, so the result does not depend on scheduling. Memory-bound: every tensor is read or
// written once (ringtrain bench membound).
#include <algorithm>

#include "kernels/ptx/cp_async.cuh"
#include "kernels/tile/numeric.cuh"
#include "kernels/tile/reduce.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/rms_norm.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kSumColumns = 32;  // of a block that adds up the sums

/// Blocks of the backward pass on one SM: each has two rows of three tensors in shared memory.
constexpr int backward_blocks_per_sm(int held) {
  return held == 1 ? 3 : 2;
}
/// Blocks in all, each with a row of sums: what an H100 runs at once, and the same everywhere, so
/// that all GPUs sum alike.
constexpr std::int64_t backward_blocks(int held) {
  return 132 * backward_blocks_per_sm(held);
}

/// What multiplies the weight: x rstd, cast to the compute type, as LLaMA does.
template <typename T, int kPack>
__device__ Pack<float, kPack> normalised(Pack<float, kPack> x, float rstd) {
#pragma unroll
  for (int e = 0; e < kPack; ++e) x.at[e] *= rstd;
  return unpack(pack_as<T>(x));
}

/// Calls body(i, h) for each pack i of the thread that is held, in held[h].
template <int kHeld, typename Body>
__device__ void for_each_held(int packs, Body body) {
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    const int i = static_cast<int>(threadIdx.x) + h * kThreads;
    if (i < packs) body(i, h);
  }
}

/// Calls body(i) for each pack of the thread that is not held.
template <int kHeld, typename Body>
__device__ void for_each_beyond(int packs, Body body) {
  for (int i = static_cast<int>(threadIdx.x) + kHeld * kThreads; i < packs; i += kThreads) body(i);
}

template <typename T, int kPack, int kHeld>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(const __grid_constant__ RmsNormArgs args) {
  using P = Pack<T, kPack>;
  __shared__ float scratch[kThreads / kWarpSize];
  const std::int64_t row = blockIdx.x;
  const int packs = static_cast<int>(args.width / kPack);
  const P* x = static_cast<const P*>(args.x) + row * packs;
  const P* weight = static_cast<const P*>(args.weight);
  P* out = static_cast<P*>(args.out) + row * packs;
  P xs[kHeld];
  P weights[kHeld];
  for_each_held<kHeld>(packs, [&](int i, int h) {
    xs[h] = x[i];
    weights[h] = weight[i];
  });
  float squares = 0.0f;
  const auto add_squares = [&](P pack) {
    const auto values = unpack(pack);
#pragma unroll
    for (int e = 0; e < kPack; ++e) squares += values.at[e] * values.at[e];
  };
  for_each_held<kHeld>(packs, [&](int, int h) { add_squares(xs[h]); });
  for_each_beyond<kHeld>(packs, [&](int i) { add_squares(x[i]); });
  squares = block_reduce<kThreads>(squares, scratch, Sum{});
  const float rstd = 1.0f / sqrtf(squares / static_cast<float>(args.width) + args.eps);
  if (threadIdx.x == 0) args.rstd[row] = rstd;
  const auto write = [&](int i, P from, P scale) {
    auto to = normalised<T>(unpack(from), rstd);
    const auto weight_of = unpack(scale);
#pragma unroll
    for (int e = 0; e < kPack; ++e) to.at[e] *= weight_of.at[e];
    out[i] = pack_as<T>(to);
  };
  for_each_held<kHeld>(packs, [&](int i, int h) { write(i, xs[h], weights[h]); });
  for_each_beyond<kHeld>(packs, [&](int i) { write(i, x[i], weight[i]); });
}

/// Shared memory of a block of the backward pass; every thread reads only what it has put there.
template <typename P, int kHeld>
struct BackwardPanels {
  struct Row {
    P x[kHeld][kThreads];
    P dout[kHeld][kThreads];
    P dx[kHeld][kThreads];
  };
  Row rows[2];  // the one that is worked on, and the next
  static_assert(2 * sizeof(Row) <= 96 * 1024, "what every GPU from sm_80 on has for a block");
};

/// Copies a pack in the background where its size allows.
template <typename P>
__device__ void fetch(P& shared, const P& global) {
  if constexpr (sizeof(P) == 16) {
    ptx::cp_async_16(&shared, &global, true);
  } else {
    shared = global;
  }
}

// dx = rstd (w dy - xhat mean(w dy xhat)) with xhat = x rstd. The rows of block b are b,
// b + gridDim.x, ...; its sums of dweight are row b of `partials`. dx may be the memory of dout.
template <typename T, int kPack, int kHeld>
__global__ void __launch_bounds__(kThreads, backward_blocks_per_sm(kHeld))
    rms_norm_backward_kernel(const __grid_constant__ RmsNormBackwardArgs args) {
  using P = Pack<T, kPack>;
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ float scratch[kThreads / kWarpSize];
  auto& panels = *reinterpret_cast<BackwardPanels<P, kHeld>*>(shared);
  const int t = static_cast<int>(threadIdx.x);
  const int packs = static_cast<int>(args.width / kPack);
  const P* xs = static_cast<const P*>(args.x);
  const P* douts = static_cast<const P*>(args.dout);
  P* dxs = static_cast<P*>(args.dx);
  const P* weight = static_cast<const P*>(args.weight);
  float* partials = args.partials + std::int64_t{blockIdx.x} * args.width;

  const auto fetch_row = [&](std::int64_t row, int stage) {
    auto& to = panels.rows[stage];
    for_each_held<kHeld>(packs, [&](int i, int h) {
      fetch(to.x[h][t], xs[row * packs + i]);
      fetch(to.dout[h][t], douts[row * packs + i]);
      fetch(to.dx[h][t], dxs[row * packs + i]);
    });
  };
  fetch_row(blockIdx.x, 0);

  Pack<float, kPack> weights[kHeld];
  for_each_held<kHeld>(packs, [&](int i, int h) { weights[h] = unpack(weight[i]); });
  float sums[kHeld][kPack] = {};
  float rstd = args.rstd[blockIdx.x];
  int stage = 0;
  for (std::int64_t row = blockIdx.x; row < args.rows; row += gridDim.x, stage ^= 1) {
    const std::int64_t next = row + gridDim.x;
    float next_rstd = 0.0f;
    ptx::cp_async_wait_all();
    if (next < args.rows) {
      fetch_row(next, stage ^ 1);
      next_rstd = args.rstd[next];
    }
    const auto& held = panels.rows[stage];
    const P* x = xs + row * packs;
    const P* dout = douts + row * packs;
    P* dx = dxs + row * packs;

    float dot = 0.0f;
    const auto take = [&](P from, P gradient, const Pack<float, kPack>& weight_of, float* sum) {
      const auto x_of = unpack(from);
      const auto dy = unpack(gradient);
      const auto xhat = normalised<T>(x_of, rstd);
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        dot += dy.at[e] * weight_of.at[e] * x_of.at[e];
        sum[e] += dy.at[e] * xhat.at[e];
      }
    };
    for_each_held<kHeld>(
        packs, [&](int, int h) { take(held.x[h][t], held.dout[h][t], weights[h], sums[h]); });
    for_each_beyond<kHeld>(packs, [&](int i) {  // their sums lie in `partials` all the time
      float* sum = partials + std::int64_t{i} * kPack;
      if (row == blockIdx.x) {
#pragma unroll
        for (int e = 0; e < kPack; ++e) sum[e] = 0.0f;
      }
      take(x[i], dout[i], unpack(weight[i]), sum);
    });

    dot = block_reduce<kThreads>(dot, scratch, Sum{});
    const float rstd_mean = rstd * (dot * rstd / static_cast<float>(args.width));
    const auto write = [&](int i, P from, P gradient, const Pack<float, kPack>& weight_of, P to) {
      const auto x_of = unpack(from);
      const auto dy = unpack(gradient);
      auto sum = unpack(to);
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        sum.at[e] += rstd * (dy.at[e] * weight_of.at[e] - x_of.at[e] * rstd_mean);
      }
      dx[i] = pack_as<T>(sum);
    };
    for_each_held<kHeld>(packs, [&](int i, int h) {
      write(i, held.x[h][t], held.dout[h][t], weights[h], held.dx[h][t]);
    });
    for_each_beyond<kHeld>(packs,
                           [&](int i) { write(i, x[i], dout[i], unpack(weight[i]), dx[i]); });
    rstd = next_rstd;
  }
  for_each_held<kHeld>(packs, [&](int i, int h) {
#pragma unroll
    for (int e = 0; e < kPack; ++e) partials[i * kPack + e] = sums[h][e];
  });
}

// A block adds up kSumColumns columns: each of its warps every kThreads / kWarpSize-th row, then
// one warp the warps' sums.
__global__ void __launch_bounds__(kThreads)
    rms_norm_dweight_kernel(const float* partials, float* dweight, int partial_rows,
                            std::int64_t width) {
  static_assert(kSumColumns == kWarpSize);
  constexpr int kWarps = kThreads / kWarpSize;
  __shared__ double of_warp[kWarps][kSumColumns];
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const std::int64_t i = std::int64_t{blockIdx.x} * kSumColumns + lane;
  double sum = 0.0;
  if (i < width) {
#pragma unroll 8
    for (int row = warp; row < partial_rows; row += kWarps)
      sum += double{partials[row * width + i]};
  }
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || i >= width) return;
  for (int w = 1; w < kWarps; ++w) sum += of_warp[w][lane];
  dweight[i] += static_cast<float>(sum);
}

/// Calls body(pack, held) with the constants kPack and kHeld for rows at these pointers.
template <typename T, typename Body>
void with_row_shape(std::int64_t width, std::initializer_list<const void*> pointers, Body&& body) {
  constexpr int kWidest = kWidestPack<T>;
  if (!is_packable<T, kWidest>(width, pointers)) {
    body(std::integral_constant<int, 1>{}, std::integral_constant<int, 4>{});
  } else if (width <= kThreads * kWidest) {
    body(std::integral_constant<int, kWidest>{}, std::integral_constant<int, 1>{});
  } else if (width <= 2 * kThreads * kWidest) {
    body(std::integral_constant<int, kWidest>{}, std::integral_constant<int, 2>{});
  } else {
    body(std::integral_constant<int, kWidest>{}, std::integral_constant<int, 4>{});
  }
}

}  // namespace

void launch_rms_norm(const RmsNormArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return;
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    with_row_shape<T>(args.width, {args.x, args.weight, args.out}, [&](auto pack, auto held) {
      rms_norm_kernel<T, pack, held>
          <<<static_cast<unsigned>(args.rows), kThreads, 0, stream>>>(args);
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_rms_norm_backward(const RmsNormBackwardArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return;
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    with_row_shape<T>(
        args.width, {args.x, args.weight, args.dout, args.dx}, [&](auto pack, auto held) {
          const auto blocks = static_cast<unsigned>(
              std::min({args.rows, args.partial_rows, backward_blocks(held)}));
          const auto kernel = rms_norm_backward_kernel<T, pack, held>;
          constexpr int kBytes = sizeof(BackwardPanels<Pack<T, pack>, held>);
          RT_CUDA_CHECK(
              cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
          kernel<<<blocks, kThreads, kBytes, stream>>>(args);
          const auto sum_blocks =
              static_cast<unsigned>((args.width + kSumColumns - 1) / kSumColumns);
          rms_norm_dweight_kernel<<<sum_blocks, kThreads, 0, stream>>>(
              args.partials, args.dweight, static_cast<int>(blocks), args.width);
        });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
