#include "ringtrain/bench/paced_copy.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>

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
    kernels::PacedCopyArgs args{.pieces = {},
                                .num_pieces = static_cast<int>(message.size()),
                                .processors = link_.processors,
                                .bytes_per_ns = link_.bytes_per_s * 1e-9,
                                .wait_ns = static_cast<std::int64_t>(link_.latency_s * 1e9)};
    if (message.size() > args.pieces.size()) {
      throw InvalidArgument("too many parts in a message for an emulated link");
    }
    for (std::size_t i = 0; i < message.size(); ++i) {
      args.pieces[i] = {message[i].from, message[i].to,
                        static_cast<std::int64_t>(message[i].bytes)};
    }
    kernels::launch_paced_copy(args, native(stream));
  }

 private:
  LinkModel link_;
};

/// Chunks by copy engine; between them a thread waits until the link would have come so far.
class EngineCopier final : public PacedCopier {
 public:
  EngineCopier(Device& device, const LinkModel& link)
      : link_(link), start_(device, sizeof(std::uint32_t)) {
    if (static_cast<double>(kChunk) / link.bytes_per_s + link.latency_s > kLongest) {
      throw InvalidArgument("the emulated link is too slow: 16 MiB would take more than a second");
    }
  }

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
  if (link.transport == LinkTransport::kCopyEngine) {
    return std::make_unique<EngineCopier>(device, link);
  }
  if (link.processors < 1) {
    throw InvalidArgument("a link carried by processors needs at least one (--ring_sms)");
  }
  return std::make_unique<ProcessorCopier>(link);
}

}  // namespace ringtrain
