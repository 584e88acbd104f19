#pragma once

#include <cstdint>

#include "kernels/ptx/mbarrier.cuh"

/// A ring of shared-memory stages between a producer and consumers: `full` completes when a
/// stage's bytes have arrived, `empty` when all consumers have let go of it.
namespace ringtrain::kernels {

/// Waits for another part of the device. With RT_KERNEL_WATCHDOG, a debug build, it traps after
/// seconds instead of hanging.
template <typename Condition>
__device__ void spin_until(Condition&& is_met) {
#ifdef RT_KERNEL_WATCHDOG
  for (int tries = 0; !is_met(); ++tries) {
    if (tries == 1 << 22) __trap();
  }
#else
  while (!is_met()) {
  }
#endif
}

__device__ inline void wait_for_phase(std::uint32_t barrier, std::uint32_t parity) {
  spin_until([&] { return ptx::mbarrier_try_wait_parity(barrier, parity); });
}

/// Where one side stands: each side keeps its own and advances it once per stage.
template <int kStages>
struct RingPosition {
  int stage = 0;
  std::uint32_t phase = 0;  // parity of the laps so far
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

template <int kStages>
struct Pipeline {
  using Position = RingPosition<kStages>;
  static constexpr int kBarrierBytes = 2 * kStages * 8;
  std::uint32_t barriers;  // shared-memory address: full, then empty

  __device__ std::uint32_t full(int stage) const { return barriers + 8 * stage; }
  __device__ std::uint32_t empty(int stage) const { return barriers + 8 * (kStages + stage); }

  /// One thread, before fence_mbarrier_init and __syncthreads.
  __device__ void init(int consumer_arrivals, int producer_arrivals = 1) const {
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::mbarrier_init(full(stage), producer_arrivals);
      ptx::mbarrier_init(empty(stage), consumer_arrivals);
    }
  }
  /// Waits until the stage is free; the first lap passes.
  __device__ void producer_wait(const Position& at) const {
    wait_for_phase(empty(at.stage), at.phase ^ 1);
  }
  /// As producer_wait, then opens `full` for copies of `bytes`.
  __device__ void producer_acquire(const Position& at, std::uint32_t bytes) const {
    producer_wait(at);
    ptx::mbarrier_arrive_expect_tx(full(at.stage), bytes);
  }
  __device__ void consumer_wait(const Position& at) const {
    wait_for_phase(full(at.stage), at.phase);
  }
  /// One thread per counted arrival, once nothing of its side still reads the stage.
  __device__ void consumer_release(const Position& at) const {
    ptx::mbarrier_arrive(empty(at.stage));
  }
};

}  // namespace ringtrain::kernels
