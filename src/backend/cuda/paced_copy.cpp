#include "ringtrain/bench/paced_copy.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>

#include "resident_copier.h"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/clock.h"

namespace ringtrain {
namespace {

cudaStream_t native(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.native());
}

/// The device's own copies, in chunks; between them a thread waits until the link would have come
/// so far.
class DeviceCopier final : public PacedCopier {
 public:
  DeviceCopier(Device& device, const LinkModel& link)
      : link_(link), start_(device, sizeof(std::uint32_t)) {
    if (static_cast<double>(kChunk) / link.bytes_per_s + link.latency_s > kLongest) {
      throw InvalidArgument("the emulated link is too slow: 16 MiB would take more than a second");
    }
  }

  void start(Stream&) override {}
  void stop(Stream&) override {}
  void copy(std::span<const CopyPiece> message, Stream& stream) override {
    auto* const start = static_cast<std::uint32_t*>(start_.data());
    kernels::launch_start_clock(start, native(stream));
    double end_s = link_.latency_s;
    for (const CopyPiece& piece : message) {
      for (std::size_t done = 0; done < piece.bytes; done += kChunk) {
        const std::size_t bytes = std::min(kChunk, piece.bytes - done);
        RT_CUDA_CHECK(cudaMemcpyAsync(static_cast<char*>(piece.to) + done,
                                      static_cast<const char*>(piece.from) + done, bytes,
                                      cudaMemcpyDeviceToDevice, native(stream)));
        end_s += static_cast<double>(bytes) / link_.bytes_per_s;
        kernels::launch_wait_for_clock(start, static_cast<std::uint32_t>(end_s * 1e9),
                                       native(stream));
        if (end_s > kLongest) {
          kernels::launch_start_clock(start, native(stream));
          end_s = 0;
        }
      }
    }
  }

 private:
  // Between a copy and a kernel the device needs some microseconds; the link takes 45 us at 370
  // GB/s.
  static constexpr std::size_t kChunk = std::size_t{16} << 20;
  static constexpr double kLongest = 1;  // seconds that a clock is used for, and a chunk may take

  LinkModel link_;
  DeviceMemory start_;
};

}  // namespace

std::unique_ptr<PacedCopier> make_cuda_paced_copier(Device& device, const LinkModel& link) {
  if (link.transport == LinkTransport::kProcessors) return make_resident_copier(device, link);
  return std::make_unique<DeviceCopier>(device, link);
}

}  // namespace ringtrain
