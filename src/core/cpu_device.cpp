#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "ringtrain/core/arena.h"
#include "ringtrain/core/cpu_stream.h"
#include "ringtrain/core/device.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// The number after `key` in a file of "key number ..." lines (/proc/meminfo, memory.stat).
std::optional<std::size_t> number_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, key.size(), key) == 0) {
      return static_cast<std::size_t>(std::strtoull(line.c_str() + key.size(), nullptr, 10));
    }
  }
  return std::nullopt;
}

/// The one number a file holds; nothing for "max" and for a file that is not there.
std::optional<std::size_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::size_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

struct ControlGroup {
  std::string limit, usage, statistics, reclaimable;
};

/// Where version 2 and version 1 keep the limit of this process's control group.
std::array<ControlGroup, 2> control_groups() {
  std::string own = "/sys/fs/cgroup";
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("0::/", 0) == 0 && std::ifstream(own + line.substr(3) + "/memory.max")) {
      own += line.substr(3);
      break;
    }
  }
  const std::string v1 = "/sys/fs/cgroup/memory";
  return {ControlGroup{own + "/memory.max", own + "/memory.current", own + "/memory.stat",
                       "inactive_file "},
          ControlGroup{v1 + "/memory.limit_in_bytes", v1 + "/memory.usage_in_bytes",
                       v1 + "/memory.stat", "total_inactive_file "}};
}

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

  MemoryInfo memory() const override {
    constexpr std::size_t kKibibyte = 1024;
    MemoryInfo info{number_of("/proc/meminfo", "MemAvailable:").value_or(0) * kKibibyte,
                    number_of("/proc/meminfo", "MemTotal:").value_or(0) * kKibibyte};
    for (const ControlGroup& group : control_groups()) {
      const auto limit = number_in(group.limit);
      if (!limit || *limit >= info.total_bytes) continue;  // version 1 writes a huge number
      const std::size_t usage = number_in(group.usage).value_or(0);
      // File cache counts as used and is given up under pressure.
      const std::size_t cache = number_of(group.statistics, group.reclaimable).value_or(0);
      const std::size_t kept = usage - std::min(usage, cache);
      info.total_bytes = *limit;
      info.free_bytes = std::min(info.free_bytes, *limit - std::min(*limit, kept));
    }
    return info;
  }
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
