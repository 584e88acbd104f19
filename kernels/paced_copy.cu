// paced_copy: a block per processor, kept alone there by the shared memory that it asks for, copies
// every gridDim-th tile and then rests until the link would have carried so much. Loads of a tile
// are in flight while its block rests. Never faster than asked, by %globaltimer.
#include "kernels/ptx/time.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/paced_copy.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 512;
constexpr int kLoads = 8;  // of 16 bytes, a thread and tile
constexpr std::int64_t kTileWords = kThreads * kLoads;
constexpr int kSharedBytes = 120 << 10;  // more than half of what a processor has
constexpr std::uint32_t kRestNs = 200;

__device__ void rest_until(std::int64_t time) {
  while (ptx::globaltimer() < time) ptx::nanosleep(kRestNs);
}

struct Words {
  const uint4* from;
  uint4* to;
  std::int64_t count;
};

struct PacedCopyParams {
  Words pieces[PacedCopyArgs::kMostPieces];
  int num_pieces;
  double ns_per_word;
  std::int64_t wait_ns;
};

__global__ void __launch_bounds__(kThreads, 1)
    paced_copy_kernel(const __grid_constant__ PacedCopyParams params) {
  const std::int64_t start = ptx::globaltimer() + params.wait_ns;
  const std::int64_t step = kTileWords * gridDim.x;
  std::int64_t carried = 0;  // by all blocks when this one gets so far
  for (int p = 0; p < params.num_pieces; ++p) {
    const Words& piece = params.pieces[p];
    uint4 tile[kLoads];
    const auto load = [&](std::int64_t first) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const std::int64_t word = first + i * kThreads + threadIdx.x;
        if (word < piece.count) tile[i] = __ldcs(piece.from + word);
      }
    };
    std::int64_t first = kTileWords * blockIdx.x;
    load(first);
    for (std::int64_t done = 0; done < piece.count; done += step, first += step) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const std::int64_t word = first + i * kThreads + threadIdx.x;
        if (word < piece.count) __stcs(piece.to + word, tile[i]);
      }
      load(first + step);
      if (threadIdx.x == 0) {
        const auto words = static_cast<double>(carried + min(done + step, piece.count));
        rest_until(start + static_cast<std::int64_t>(words * params.ns_per_word));
      }
      __syncthreads();
    }
    carried += piece.count;
  }
}

__global__ void start_clock_kernel(std::uint32_t* start) {
  *start = ptx::globaltimer_lo();
}

__global__ void wait_for_clock_kernel(const std::uint32_t* start, std::uint32_t ns) {
  const std::uint32_t since = *start;
  while (ptx::globaltimer_lo() - since < ns) ptx::nanosleep(kRestNs);
}

}  // namespace

void launch_paced_copy(const PacedCopyArgs& args, cudaStream_t stream) {
  constexpr auto kWordBytes = static_cast<std::int64_t>(sizeof(uint4));
  PacedCopyParams params{};
  for (int i = 0; i < args.num_pieces; ++i) {
    const PacedCopyArgs::Piece& piece = args.pieces[static_cast<std::size_t>(i)];
    params.pieces[i] = {static_cast<const uint4*>(piece.from), static_cast<uint4*>(piece.to),
                        piece.bytes / kWordBytes};
  }
  params.num_pieces = args.num_pieces;
  params.ns_per_word = static_cast<double>(kWordBytes) / args.bytes_per_ns;
  params.wait_ns = args.wait_ns;
  RT_CUDA_CHECK(cudaFuncSetAttribute(paced_copy_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     kSharedBytes));
  paced_copy_kernel<<<static_cast<unsigned>(args.processors), kThreads, kSharedBytes, stream>>>(
      params);
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_start_clock(std::uint32_t* start, cudaStream_t stream) {
  start_clock_kernel<<<1, 1, 0, stream>>>(start);
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_wait_for_clock(const std::uint32_t* start, std::uint32_t ns, cudaStream_t stream) {
  wait_for_clock_kernel<<<1, 1, 0, stream>>>(start, ns);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
