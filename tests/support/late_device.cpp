#include "support/late_device.h"

#include <cstring>

#include "ringtrain/core/cpu_stream.h"

namespace ringtrain {
namespace {

void copy_late(void* to, const void* from, std::size_t bytes, Stream& stream) {
  CpuStream::of(stream).defer([=] { std::memcpy(to, from, bytes); });
}

}  // namespace

void* LateDevice::allocate(std::size_t bytes) {
  ++num_allocations_;
  return cpu_->allocate(bytes);
}

void* LateDevice::allocate_host(std::size_t bytes) {
  ++num_allocations_;
  return cpu_->allocate_host(bytes);
}

void LateDevice::copy_to_device(void* device, const void* host, std::size_t bytes, Stream& stream) {
  copy_late(device, host, bytes, stream);
}

void LateDevice::copy_to_host(void* host, const void* device, std::size_t bytes, Stream& stream) {
  copy_late(host, device, bytes, stream);
}

void LateDevice::copy_on_device(void* to, const void* from, std::size_t bytes, Stream& stream) {
  copy_late(to, from, bytes, stream);
}

}  // namespace ringtrain
