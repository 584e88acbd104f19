#include "ringtrain/bench/paced_copy.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "ringtrain/core/cpu_stream.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// Copies when somebody waits for the message, as late as streams and events allow.
class CpuPacedCopier final : public PacedCopier {
 public:
  explicit CpuPacedCopier(const LinkModel& link) : link_(link) {}

  void start(Stream&) override {}
  void stop(Stream&) override {}
  void copy(std::span<const CopyPiece> message, Stream& stream) override {
    std::size_t bytes = 0;
    for (const CopyPiece& piece : message) bytes += piece.bytes;
    const std::chrono::duration<double> takes(link_.latency_s +
                                              static_cast<double>(bytes) / link_.bytes_per_s);
    // The link carries one message after the other.
    const auto start = std::max(Clock::now(), free_at_);
    free_at_ = start + std::chrono::duration_cast<Clock::duration>(takes);
    CpuStream::of(stream).defer(
        [pieces = std::vector(message.begin(), message.end()), end = free_at_] {
          for (const CopyPiece& piece : pieces) std::memcpy(piece.to, piece.from, piece.bytes);
          std::this_thread::sleep_until(end);
        });
  }

 private:
  using Clock = std::chrono::steady_clock;
  LinkModel link_;
  Clock::time_point free_at_;
};

}  // namespace

std::unique_ptr<PacedCopier> make_paced_copier(Device& device, const LinkModel& link) {
  if (!(link.bytes_per_s > 0) || !(link.latency_s >= 0)) {
    throw InvalidArgument("an emulated link needs a rate above 0 and a latency of at least 0");
  }
  if (device.type() == DeviceType::kCuda) return make_cuda_paced_copier(device, link);
  return std::make_unique<CpuPacedCopier>(link);
}

}  // namespace ringtrain
