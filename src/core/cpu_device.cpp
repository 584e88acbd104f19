#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "ringtrain/core/arena.h"
#include "ringtrain/core/cpu_stream.h"
#include "ringtrain/core/device.h"
#include "ringtrain/core/error.h"
#include "ringtrain/core/host_memory.h"

namespace ringtrain {
namespace {

class CpuDevice final : public Device {
 public:
  DeviceType type() const override { return DeviceType::kCpu; }
  std::string name() const override {
    const int threads = omp_get_max_threads();
    return fmt::format("cpu, {} thread{}", threads, threads == 1 ? "" : "s");
  }
  std::string uuid() const override { return {}; }
  std::unique_ptr<Stream> make_stream(StreamPriority) override {
    return std::make_unique<CpuStream>(&communication_wait_s_);
  }
  std::unique_ptr<Event> make_event() override { return std::make_unique<CpuEvent>(); }
  std::unique_ptr<Event> make_timed_event() override { return make_event(); }

  void* allocate(std::size_t bytes) override {
    // The kernel promises more memory than there is, and kills whoever touches it: ask first.
    const std::size_t free_bytes = memory().free_bytes;
    void* memory = nullptr;
    if (bytes <= free_bytes) {
      const std::size_t blocks =
          std::max<std::size_t>(1, (bytes + Arena::kAlignment - 1) / Arena::kAlignment);
      memory = std::aligned_alloc(Arena::kAlignment, blocks * Arena::kAlignment);
    }
    if (memory == nullptr) {
      throw DeviceError(
          fmt::format("out of memory on the cpu: {} bytes wanted, {} free", bytes, free_bytes));
    }
    return memory;
  }
  void deallocate(void* memory) noexcept override { std::free(memory); }
  void* allocate_host(std::size_t bytes) override { return allocate(bytes); }
  void deallocate_host(void* memory) noexcept override { deallocate(memory); }

  void copy_to_device(void* device, const void* host, std::size_t bytes, Stream& stream) override {
    copy(device, host, bytes, stream);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes, Stream& stream) override {
    copy(host, device, bytes, stream);
  }
  void copy_on_device(void* to, const void* from, std::size_t bytes, Stream& stream) override {
    copy(to, from, bytes, stream);
  }

  MemoryInfo memory() const override { return host_memory(); }
  double communication_wait_s() const override { return communication_wait_s_; }
  double peak_flops() const override { return 0; }

 private:
  static void copy(void* to, const void* from, std::size_t bytes, Stream& stream) {
    CpuStream::of(stream).complete();
    if (bytes > 0) std::memcpy(to, from, bytes);
  }

  double communication_wait_s_ = 0;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device() {
  return std::make_unique<CpuDevice>();
}

}  // namespace ringtrain
