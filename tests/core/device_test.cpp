#include "ringtrain/core/device.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string>

#include "ringtrain/core/cpu_stream.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

TEST(CpuDeviceTest, AllocatesAlignedMemory) {
  const auto device = make_cpu_device();
  for (const std::size_t bytes : {0, 1, 1024, 1025}) {
    const DeviceMemory memory(*device, bytes);
    EXPECT_NE(memory.data(), nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 1024, 0u);
  }
}

TEST(CpuDeviceTest, RefusesMoreMemoryThanThereIs) {
  const auto device = make_cpu_device();
  const std::size_t wanted = device->memory().total_bytes + 1;
  try {
    device->allocate(wanted);
    FAIL() << "allocated more than the machine has";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find(std::to_string(wanted)), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(device->allocate(std::numeric_limits<std::size_t>::max()), DeviceError);
}

TEST(CpuDeviceTest, KnowsItsMemoryAndName) {
  const auto device = make_cpu_device();
  EXPECT_EQ(device->type(), DeviceType::kCpu);
  EXPECT_EQ(device->name().rfind("cpu, ", 0), 0u) << device->name();
  const auto memory = device->memory();
  EXPECT_GT(memory.free_bytes, 0u);
  EXPECT_LE(memory.free_bytes, memory.total_bytes);
}

TEST(CpuDeviceTest, CopiesAfterPendingWork) {
  const auto device = make_cpu_device();
  const auto stream = device->make_stream(StreamPriority::kNormal);
  const DeviceMemory memory(*device, sizeof(int));
  int received = 0;
  CpuStream::of(*stream).defer([&] { *static_cast<int*>(memory.data()) = 7; });
  device->copy_to_host(&received, memory.data(), sizeof(int), *stream);
  EXPECT_EQ(received, 7);
}

TEST(MetaDeviceTest, HasNoMemoryAndCopiesNothing) {
  const auto device = make_meta_device();
  const auto stream = device->make_stream(StreamPriority::kHigh);
  const auto event = device->make_event();
  const DeviceMemory memory(*device, std::size_t{1} << 50);
  EXPECT_NE(memory.data(), nullptr);
  int value = 3;
  device->copy_to_device(memory.data(), &value, sizeof(value), *stream);
  device->copy_to_host(&value, memory.data(), sizeof(value), *stream);
  stream->record(*event);
  stream->wait(*event);
  event->synchronise();
  stream->synchronise();
  EXPECT_EQ(value, 3);
}

}  // namespace
}  // namespace ringtrain
