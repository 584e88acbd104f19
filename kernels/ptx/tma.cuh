#pragma once

#include <cuda.h>

#include <cstdint>

/// Bulk copies between global and shared memory by the copy engine (PTX ISA: cp.async.bulk).
/// Elements outside the tensor arrive as zeros and are counted; stores leave them out.
/// One thread calls.
namespace ringtrain::kernels::ptx {

/// prefetch.tensormap: before the first copy through `map`.
__device__ inline void prefetch_tensormap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// cp.async.bulk.tensor.4d, global to shared: the box at (c0, c1, c2, c3), innermost first;
/// its bytes complete on `barrier`.
__device__ inline void tma_load_4d(std::uint32_t to, const CUtensorMap* map, std::uint32_t barrier,
                                   int c0, int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

/// cp.async.bulk.tensor.4d, shared to global; ends with its bulk group.
__device__ inline void tma_store_4d(const CUtensorMap* map, std::uint32_t from, int c0, int c1,
                                    int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group "
      "[%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
      "r"(from), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

/// cp.reduce.async.bulk.tensor.4d, shared to global: adds the box; ends with its bulk group.
__device__ inline void tma_reduce_add_4d(const CUtensorMap* map, std::uint32_t from, int c0, int c1,
                                         int c2, int c3) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.tile.bulk_group "
      "[%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
      "r"(from), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

/// cp.async.bulk.commit_group: closes the group of this thread's stores so far.
__device__ inline void bulk_commit_group() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/// cp.async.bulk.wait_group.read: all but kPending groups have read their shared memory.
template <int kPending>
__device__ inline void bulk_wait_group_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

/// cp.async.bulk.wait_group: all but kPending groups are complete.
template <int kPending>
__device__ inline void bulk_wait_group() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace ringtrain::kernels::ptx
