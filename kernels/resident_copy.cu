// resident_copy: one block a processor, which is alone there by the shared memory that it asks
// for, and stays. It polls for messages, and its warps bring every so many-th tile of them to where
// it goes, when the link would have carried so much: never faster than asked, by %globaltimer.
#include "kernels/ptx/global.cuh"
#include "kernels/ptx/time.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/resident_copy.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kLoads = 6;                // of 16 bytes, a thread and tile: more would spill
constexpr int kSharedBytes = 120 << 10;  // more than half of what a processor has
constexpr std::int64_t kTileWords = 32 * kLoads;
constexpr std::uint32_t kRestNs = 50;

/// All threads of the block. From L2, since others write it while this kernel runs.
__device__ void read(const CopyMessage& from, CopyMessage& to) {
  constexpr auto kWords = static_cast<unsigned>(sizeof(CopyMessage) / sizeof(std::uint32_t));
  static_assert(kWords <= kThreads);
  if (threadIdx.x < kWords) {
    reinterpret_cast<std::uint32_t*>(&to)[threadIdx.x] =
        __ldcg(reinterpret_cast<const std::uint32_t*>(&from) + threadIdx.x);
  }
  __syncthreads();
}

/// Loads of all lanes are in flight while the warp rests.
__device__ void carry(const CopyMessage& message, double ns_per_word, std::int64_t start) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t warp = blockIdx.x + std::int64_t{gridDim.x} * (threadIdx.x / 32);
  const std::int64_t step = kTileWords * kWarps * gridDim.x;
  std::int64_t earlier = 0;  // words of the pieces before
  for (int p = 0; p < message.num_pieces; ++p) {
    const auto* from = static_cast<const uint4*>(message.pieces[p].from);
    auto* to = static_cast<uint4*>(message.pieces[p].to);
    const std::int64_t words = message.pieces[p].bytes / static_cast<std::int64_t>(sizeof(uint4));
    for (std::int64_t first = warp * kTileWords; first < words; first += step) {
      uint4 tile[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const std::int64_t word = first + i * 32 + lane;
        if (word < words) tile[i] = __ldcg(from + word);  // as above
      }
      const auto due = static_cast<double>(earlier + min(first + kTileWords, words)) * ns_per_word;
      const std::int64_t end = start + static_cast<std::int64_t>(due);
      while (ptx::globaltimer() < end) ptx::nanosleep(kRestNs);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const std::int64_t word = first + i * 32 + lane;
        if (word < words) __stcs(to + word, tile[i]);
      }
    }
    earlier += words;
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    resident_copy_kernel(CopyMailbox* mailbox, std::uint32_t number, double ns_per_word,
                         std::int64_t wait_ns) {
  __shared__ CopyMessage message;
  if (threadIdx.x == 0) atomicAdd(&mailbox->resident, 1);
  for (bool is_last = false; !is_last; ++number) {
    if (threadIdx.x == 0) {
      while (static_cast<std::int32_t>(ptx::ld_acquire_sys(&mailbox->posted) - number) < 0) {
        ptx::nanosleep(kRestNs);
      }
    }
    __syncthreads();
    read(mailbox->message, message);
    carry(message, ns_per_word, ptx::globaltimer() + wait_ns);
    is_last = message.num_pieces == 0;
    __syncthreads();
    if (threadIdx.x > 0) continue;
    __threadfence_system();
    if (atomicAdd(&mailbox->arrived, 1) + 1 < gridDim.x) continue;
    mailbox->arrived = 0;
    __threadfence_system();
    ptx::st_release_sys(&mailbox->carried, number);
  }
}

}  // namespace

void launch_resident_copy(const ResidentCopyArgs& args, cudaStream_t stream) {
  const double ns_per_word = static_cast<double>(sizeof(uint4)) / args.bytes_per_ns;
  RT_CUDA_CHECK(cudaFuncSetAttribute(resident_copy_kernel,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  resident_copy_kernel<<<static_cast<unsigned>(args.processors), kThreads, kSharedBytes, stream>>>(
      args.mailbox, args.first_message, ns_per_word, args.wait_ns);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
