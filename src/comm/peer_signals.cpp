#include "peer_signals.h"

#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/backend/driver_function.h"

namespace ringtrain {

PeerSignals::PeerSignals(Device& device, MemoryExporter& exporter, int rank, int size)
    : write_(driver_function<decltype(&cuStreamWriteValue32)>("cuStreamWriteValue32")),
      wait_(driver_function<decltype(&cuStreamWaitValue32)>("cuStreamWaitValue32")),
      rank_(rank),
      size_(size),
      memory_(device, 2 * num_words() * sizeof(std::uint32_t)),
      shared_(exporter.share(memory_.data(), memory_.bytes())),
      of_peer_(static_cast<std::size_t>(size)),
      sent_(num_words()),
      awaited_(num_words()) {
  // Also shows whether this device knows these operations.
  const auto stream = device.make_stream(StreamPriority::kNormal);
  const auto native = static_cast<cudaStream_t>(stream->native());
  RT_CUDA_CHECK(cudaMemsetAsync(memory_.data(), 0, memory_.bytes(), native));
  const CUdeviceptr word = driver_address(own(num_words()));
  check_driver(write_(native, word, 1, CU_STREAM_WRITE_VALUE_DEFAULT), "cuStreamWriteValue32");
  check_driver(wait_(native, word, 1, CU_STREAM_WAIT_VALUE_GEQ), "cuStreamWaitValue32");
  stream->synchronise();
}

void PeerSignals::connect(int peer, void* words_of_peer) {
  of_peer_[static_cast<std::size_t>(peer)] = static_cast<std::uint32_t*>(words_of_peer);
}

// The value goes to a word of this rank first, from where a copy takes it to the peer: streams
// write words of their own device only.
void PeerSignals::send(Kind kind, int peer, cudaStream_t stream) {
  const std::size_t to = index(kind, peer);
  std::uint32_t* const value = own(num_words() + to);
  check_driver(write_(stream, driver_address(value), ++sent_[to], CU_STREAM_WRITE_VALUE_DEFAULT),
               "cuStreamWriteValue32");
  RT_CUDA_CHECK(cudaMemcpyAsync(of_peer_[static_cast<std::size_t>(peer)] + index(kind, rank_),
                                value, sizeof *value, cudaMemcpyDeviceToDevice, stream));
}

void PeerSignals::wait(Kind kind, int peer, cudaStream_t stream) {
  const std::size_t from = index(kind, peer);
  check_driver(wait_(stream, driver_address(own(from)), ++awaited_[from], CU_STREAM_WAIT_VALUE_GEQ),
               "cuStreamWaitValue32");
}

}  // namespace ringtrain
