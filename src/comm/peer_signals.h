#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "peer_memory.h"
#include "ringtrain/core/device.h"

namespace ringtrain {

/// Words of device memory by which this rank and its peers, of a group of `size`, tell each other
/// how far their streams are. Signals to a peer are counted, as are those awaited from it.
class PeerSignals {
 public:
  /// Errors: DeviceError where streams cannot wait for a word of memory, or it cannot be shared.
  PeerSignals(Device& device, MemoryExporter& exporter, int rank, int size);

  /// For the peers, which pass it to `connect`.
  const SharedStretch& words() const { return shared_; }
  void connect(int peer, void* words_of_peer);

  enum Kind : std::size_t {
    kRoom,    ///< what the peer will write to may be overwritten
    kArrived  ///< what this rank has written to the peer is there
  };
  /// Work enqueued on `stream` so far is done: the next signal of this kind to `peer`.
  void send(Kind kind, int peer, cudaStream_t stream);
  /// Work enqueued on `stream` from now on waits for the next signal of this kind from `peer`.
  void wait(Kind kind, int peer, cudaStream_t stream);

 private:
  static constexpr std::size_t kKinds = 2;
  /// Of `words`, those of one rank: a word a kind and peer, first what the peers write.
  std::size_t index(Kind kind, int peer) const {
    return kind * static_cast<std::size_t>(size_) + static_cast<std::size_t>(peer);
  }
  std::uint32_t* own(std::size_t index) const {
    return static_cast<std::uint32_t*>(memory_.data()) + index;
  }
  std::size_t num_words() const { return kKinds * static_cast<std::size_t>(size_); }

  decltype(&cuStreamWriteValue32) write_;
  decltype(&cuStreamWaitValue32) wait_;
  int rank_;
  int size_;
  DeviceMemory memory_;  // received signals, then the values of those to be sent
  SharedStretch shared_;
  std::vector<std::uint32_t*> of_peer_;
  std::vector<std::uint32_t> sent_, awaited_;
};

}  // namespace ringtrain
