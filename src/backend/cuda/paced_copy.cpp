#include "ringtrain/bench/paced_copy.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/paced_copy.h"

namespace ringtrain {
namespace {

cudaStream_t native(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.native());
}

class ProcessorCopier final : public PacedCopier {
 public:
  explicit ProcessorCopier(const LinkModel& link) : link_(link) {}

  void copy(std::span<const CopyPiece> message, Stream& stream) override {
    double wait_s = link_.latency_s;
    for (const CopyPiece& piece : message) {
      kernels::launch_paced_copy({.from = piece.from,
                                  .to = piece.to,
                                  .bytes = static_cast<std::int64_t>(piece.bytes),
                                  .processors = link_.processors,
                                  .bytes_per_ns = link_.bytes_per_s * 1e-9,
                                  .wait_ns = static_cast<std::int64_t>(wait_s * 1e9)},
                                 native(stream));
      wait_s = 0;
    }
  }

 private:
  LinkModel link_;
};

/// Chunks by copy engine; between them a thread waits until the link would have come so far.
class EngineCopier final : public PacedCopier {
 public:
  EngineCopier(Device& device, const LinkModel& link)
      : link_(link), start_(device, sizeof(std::int64_t)) {}

  void copy(std::span<const CopyPiece> message, Stream& stream) override {
    auto* const start = static_cast<std::int64_t*>(start_.data());
    kernels::launch_start_clock(start, native(stream));
    double end_s = link_.latency_s;
    for (const CopyPiece& piece : message) {
      for (std::size_t done = 0; done < piece.bytes; done += kChunk) {
        const std::size_t bytes = std::min(kChunk, piece.bytes - done);
        copy_chunk(static_cast<char*>(piece.to) + done, static_cast<const char*>(piece.from) + done,
                   bytes, native(stream));
        end_s += static_cast<double>(bytes) / link_.bytes_per_s;
        kernels::launch_wait_for_clock(start, static_cast<std::int64_t>(end_s * 1e9),
                                       native(stream));
      }
    }
  }

 private:
  // Between a copy and a kernel the device needs some microseconds; the link takes 45 us at 370
  // GB/s.
  static constexpr std::size_t kChunk = std::size_t{16} << 20;

  static void copy_chunk(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
    static const char* probe = std::getenv("RT_PROBE_COPY");
    if (probe != nullptr && std::string_view(probe) == "plain") {
      RT_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
      return;
    }
    cudaMemcpyAttributes attributes{};
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;
    std::size_t first = 0;
    RT_CUDA_CHECK(cudaMemcpyBatchAsync(&to, &from, &bytes, 1, &attributes, &first, 1, stream));
  }

  LinkModel link_;
  DeviceMemory start_;
};

}  // namespace

std::unique_ptr<PacedCopier> make_cuda_paced_copier(Device& device, const LinkModel& link) {
  if (link.transport == LinkTransport::kCopyEngine) {
    return std::make_unique<EngineCopier>(device, link);
  }
  if (link.processors < 1) {
    throw InvalidArgument("a link carried by processors needs at least one (--ring_sms)");
  }
  return std::make_unique<ProcessorCopier>(link);
}

}  // namespace ringtrain
