#include <cstdint>
#include <memory>
#include <string>

#include "ringtrain/core/device.h"

namespace ringtrain {
namespace {

class MetaEvent final : public Event {
 public:
  void synchronise() override {}
  bool is_complete() const override { return true; }
  double seconds_since(const Event&) const override { return 0; }
};

class MetaStream final : public Stream {
 public:
  void record(Event&) override {}
  void wait(const Event&) override {}
  void synchronise() override {}
  void* native() const override { return nullptr; }
};

class MetaDevice final : public Device {
 public:
  DeviceType type() const override { return DeviceType::kMeta; }
  std::string name() const override { return "meta"; }
  std::string uuid() const override { return {}; }
  std::unique_ptr<Stream> make_stream(StreamPriority) override {
    return std::make_unique<MetaStream>();
  }
  std::unique_ptr<Event> make_event() override { return std::make_unique<MetaEvent>(); }
  std::unique_ptr<Event> make_timed_event() override { return make_event(); }

  // Aligned and not null, because a null tensor is an absent one; nobody may read it.
  void* allocate(std::size_t) override { return reinterpret_cast<void*>(std::uintptr_t{1} << 40); }
  void deallocate(void*) noexcept override {}
  void* allocate_host(std::size_t bytes) override { return allocate(bytes); }
  void deallocate_host(void*) noexcept override {}
  void copy_to_device(void*, const void*, std::size_t, Stream&) override {}
  void copy_to_host(void*, const void*, std::size_t, Stream&) override {}
  void copy_on_device(void*, const void*, std::size_t, Stream&) override {}

  MemoryInfo memory() const override { return {0, 0}; }
  double communication_wait_s() const override { return 0; }
  double peak_flops() const override { return 0; }
};

}  // namespace

std::unique_ptr<Device> make_meta_device() {
  return std::make_unique<MetaDevice>();
}

}  // namespace ringtrain
