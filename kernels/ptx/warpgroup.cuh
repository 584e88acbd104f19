#pragma once

#include <cstdint>

/// Registers of a warpgroup, barriers among some threads of a block, and the fence between
/// ordinary shared-memory stores and the copy engine or tensor cores.
namespace ringtrain::kernels::ptx {

/// setmaxnreg.inc: all warps of the warpgroup call; waits until the registers are free.
template <int kRegisters>
__device__ inline void setmaxnreg_inc() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// setmaxnreg.dec: gives back registers above kRegisters per thread.
template <int kRegisters>
__device__ inline void setmaxnreg_dec() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// bar.sync: `threads` threads, whole warps, meet at barrier `id` (1 .. 15; 0 is __syncthreads).
__device__ inline void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// bar.arrive: as named_barrier_sync, without waiting; the others may wait.
__device__ inline void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// fence.proxy.async: each thread that wrote shared memory calls it, then a barrier, then wgmma or
/// a bulk copy may read what was written.
__device__ inline void fence_proxy_async_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// stmatrix.x4: stores four 8 x 8 blocks of 16-bit elements; lane l gives the address of row l % 8
/// of block l / 8, and register i of lane l holds elements (l / 4, 2 (l % 4)) and the next of
/// block i.
__device__ inline void stmatrix_x4(std::uint32_t to, std::uint32_t r0, std::uint32_t r1,
                                   std::uint32_t r2, std::uint32_t r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
               "r"(r0), "r"(r1), "r"(r2), "r"(r3)
               : "memory");
}

/// stmatrix.x4.trans: as stmatrix_x4, each block stored transposed.
__device__ inline void stmatrix_x4_trans(std::uint32_t to, std::uint32_t r0, std::uint32_t r1,
                                         std::uint32_t r2, std::uint32_t r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
               "r"(r0), "r"(r1), "r"(r2), "r"(r3)
               : "memory");
}

}  // namespace ringtrain::kernels::ptx
