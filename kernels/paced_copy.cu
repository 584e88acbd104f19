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

__global__ void __launch_bounds__(kThreads, 1)
    paced_copy_kernel(const uint4* from, uint4* to, std::int64_t words, double ns_per_word,
                      std::int64_t wait_ns) {
  const std::int64_t start = ptx::globaltimer() + wait_ns;
  const std::int64_t step = kTileWords * gridDim.x;
  uint4 tile[kLoads];
  const auto load = [&](std::int64_t first) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const std::int64_t word = first + i * kThreads + threadIdx.x;
      if (word < words) tile[i] = __ldcs(from + word);
    }
  };
  std::int64_t first = kTileWords * blockIdx.x;
  load(first);
  for (std::int64_t carried = step; first < words; first += step, carried += step) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const std::int64_t word = first + i * kThreads + threadIdx.x;
      if (word < words) __stcs(to + word, tile[i]);
    }
    load(first + step);
    if (threadIdx.x == 0) {
      rest_until(start +
                 static_cast<std::int64_t>(static_cast<double>(min(carried, words)) * ns_per_word));
    }
    __syncthreads();
  }
}

__global__ void start_clock_kernel(std::int64_t* start) {
  *start = ptx::globaltimer();
}

__global__ void wait_for_clock_kernel(const std::int64_t* start, std::int64_t ns) {
  rest_until(*start + ns);
}

}  // namespace

void launch_paced_copy(const PacedCopyArgs& args, cudaStream_t stream) {
  if (args.bytes == 0) return;
  RT_CUDA_CHECK(cudaFuncSetAttribute(paced_copy_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     kSharedBytes));
  constexpr auto kWordBytes = static_cast<std::int64_t>(sizeof(uint4));
  paced_copy_kernel<<<static_cast<unsigned>(args.processors), kThreads, kSharedBytes, stream>>>(
      static_cast<const uint4*>(args.from), static_cast<uint4*>(args.to), args.bytes / kWordBytes,
      static_cast<double>(kWordBytes) / args.bytes_per_ns, args.wait_ns);
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_start_clock(std::int64_t* start, cudaStream_t stream) {
  start_clock_kernel<<<1, 1, 0, stream>>>(start);
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_wait_for_clock(const std::int64_t* start, std::int64_t ns, cudaStream_t stream) {
  wait_for_clock_kernel<<<1, 1, 0, stream>>>(start, ns);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
