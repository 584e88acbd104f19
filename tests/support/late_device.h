#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "ringtrain/core/device.h"

namespace ringtrain {

/// The CPU, with copies that happen as late as streams and events allow: where a stream does not
/// wait for a copy that it needs, results are wrong every time. Counts allocations.
class LateDevice final : public Device {
 public:
  LateDevice() : cpu_(make_cpu_device()) {}

  DeviceType type() const override { return DeviceType::kCpu; }
  std::string name() const override { return "late " + cpu_->name(); }
  std::string uuid() const override { return cpu_->uuid(); }
  std::unique_ptr<Stream> make_stream(StreamPriority priority) override {
    return cpu_->make_stream(priority);
  }
  std::unique_ptr<Event> make_event() override { return cpu_->make_event(); }
  std::unique_ptr<Event> make_timed_event() override { return cpu_->make_timed_event(); }

  void* allocate(std::size_t bytes) override;
  void deallocate(void* memory) noexcept override { cpu_->deallocate(memory); }
  void* allocate_host(std::size_t bytes) override;
  void deallocate_host(void* memory) noexcept override { cpu_->deallocate_host(memory); }
  void copy_to_device(void* device, const void* host, std::size_t bytes, Stream& stream) override;
  void copy_to_host(void* host, const void* device, std::size_t bytes, Stream& stream) override;
  void copy_on_device(void* to, const void* from, std::size_t bytes, Stream& stream) override;

  MemoryInfo memory() const override { return cpu_->memory(); }
  double communication_wait_s() const override { return cpu_->communication_wait_s(); }
  double peak_flops() const override { return 0; }

  int num_allocations() const { return num_allocations_; }

 private:
  std::unique_ptr<Device> cpu_;
  int num_allocations_ = 0;
};

}  // namespace ringtrain
