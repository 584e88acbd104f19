#pragma once

#include <cuda_runtime.h>

namespace ringtrain::kernels {

/// Hands out items to the blocks of a persistent grid, in order: a block that starts late, because
/// another kernel had its SM, finds what the others have left. The last block to finish resets it
/// for the next launch.
struct ItemCounter {
  int taken;
  int finished;

  __device__ int take() { return atomicAdd(&taken, 1); }
  /// One thread of every block, after its last take().
  __device__ void finish() {
    __threadfence();
    if (atomicAdd(&finished, 1) != static_cast<int>(gridDim.x) - 1) return;
    finished = 0;
    taken = 0;
  }
};

}  // namespace ringtrain::kernels
