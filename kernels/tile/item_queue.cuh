#pragma once

#include <cstdint>

#include "kernels/tile/pipeline.cuh"

/// The items of a persistent block on their way from the thread that takes them to all others.
namespace ringtrain::kernels {

template <int kItems>
struct ItemQueue {
  static constexpr int kBytes = Pipeline<kItems>::kBarrierBytes + kItems * 4;
  Pipeline<kItems> pipe;
  volatile int* items;

  /// In shared memory of kBytes, 8-byte aligned, whose address is given in both forms.
  __device__ ItemQueue(std::uint32_t shared, std::uint8_t* memory)
      : pipe{shared},
        items(reinterpret_cast<volatile int*>(memory + Pipeline<kItems>::kBarrierBytes)) {}

  /// One thread, before fence_mbarrier_init and __syncthreads. `readers`: those that release.
  __device__ void init(int readers) const { pipe.init(readers); }

  /// Where the taker stands.
  struct Writer {
    ItemQueue queue;
    RingPosition<kItems> at{};
    __device__ void tell(int item) {
      queue.pipe.producer_wait(at);
      queue.items[at.stage] = item;
      ptx::mbarrier_arrive(queue.pipe.full(at.stage));
      at.advance();
    }
  };

  /// Where a reader stands: at the first item that has been told, then one further on at a time.
  struct Reader {
    __device__ explicit Reader(const ItemQueue& from) : queue(from) { read(); }
    /// `releases`: for one thread of each reader, when none of its side still reads.
    __device__ void advance(bool releases) {
      if (releases) queue.pipe.consumer_release(at);
      at.advance();
      read();
    }
    int item;

   private:
    __device__ void read() {
      queue.pipe.consumer_wait(at);
      item = queue.items[at.stage];
    }
    ItemQueue queue;
    RingPosition<kItems> at{};
  };
};

}  // namespace ringtrain::kernels
