#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ringtrain/core/device.h"
#include "ringtrain/core/error.h"
#include "support/gpu.h"

namespace ringtrain {
namespace {

class CudaDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    RT_SKIP_WITHOUT_GPU();
    device_ = make_cuda_device(0);
  }
  std::unique_ptr<Device> device_;
};

TEST(CudaDeviceAbsentTest, SaysWhatToDoWithoutAGpu) {
  if (cuda_device_count() > 0) GTEST_SKIP() << "there is a GPU";
  try {
    make_cuda_device(0);
    FAIL() << "made a device out of nothing";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("--device=cpu"), std::string::npos) << error.what();
  }
}

TEST_F(CudaDeviceTest, AllocatesAlignedMemory) {
  for (const std::size_t bytes : {0, 1, 1024, 1025}) {
    const DeviceMemory memory(*device_, bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 1024, 0u);
  }
}

TEST_F(CudaDeviceTest, RefusesMoreMemoryThanThereIs) {
  const std::size_t wanted = device_->memory().total_bytes * 2;
  try {
    device_->allocate(wanted);
    FAIL() << "allocated more than the device has";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find(std::to_string(wanted)), std::string::npos)
        << error.what();
  }
  const DeviceMemory memory(*device_, 4096);  // the refusal leaves no error behind
}

TEST_F(CudaDeviceTest, RefusesAnOrdinalItDoesNotHave) {
  EXPECT_THROW(make_cuda_device(cuda_device_count()), DeviceError);
  EXPECT_THROW(make_cuda_device(-1), DeviceError);
}

TEST_F(CudaDeviceTest, KnowsItself) {
  EXPECT_EQ(device_->type(), DeviceType::kCuda);
  EXPECT_NE(device_->name().find("(cuda:0)"), std::string::npos) << device_->name();
  EXPECT_EQ(device_->uuid().rfind("GPU-", 0), 0u) << device_->uuid();
  EXPECT_EQ(device_->uuid().size(), 40u) << device_->uuid();
  EXPECT_LE(device_->memory().free_bytes, device_->memory().total_bytes);
  if (device_->name().find("H100 80GB") != std::string::npos) {
    EXPECT_EQ(device_->peak_flops(), 989e12);
  }
}

TEST_F(CudaDeviceTest, CopiesThereAroundAndBack) {
  const auto stream = device_->make_stream(StreamPriority::kNormal);
  const auto other = device_->make_stream(StreamPriority::kHigh);
  const auto copied = device_->make_event();
  constexpr std::size_t kCount = 1 << 20;
  constexpr std::size_t kBytes = kCount * sizeof(std::uint32_t);
  const HostMemory host(*device_, kBytes);
  const DeviceMemory first(*device_, kBytes);
  const DeviceMemory second(*device_, kBytes);
  auto* numbers = static_cast<std::uint32_t*>(host.data());
  for (std::uint32_t i = 0; i < kCount; ++i) numbers[i] = i * 2654435761u;
  stream->wait(*copied);  // never recorded: nothing to wait for
  device_->copy_to_device(first.data(), numbers, kBytes, *stream);
  device_->copy_on_device(second.data(), first.data(), kBytes, *stream);
  stream->record(*copied);
  other->wait(*copied);  // the copy back runs on another stream, after the event
  std::vector<std::uint32_t> received(kCount);
  device_->copy_to_host(received.data(), second.data(), kBytes, *other);
  other->synchronise();
  copied->synchronise();
  for (std::uint32_t i = 0; i < kCount; ++i) ASSERT_EQ(received[i], i * 2654435761u);
}

TEST_F(CudaDeviceTest, EventsTellWhetherAndWhen) {
  const auto stream = device_->make_stream(StreamPriority::kNormal);
  const auto begin = device_->make_timed_event();
  const auto end = device_->make_timed_event();
  EXPECT_TRUE(begin->is_complete());  // never recorded
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  const DeviceMemory first(*device_, kBytes);
  const DeviceMemory second(*device_, kBytes);
  stream->record(*begin);
  constexpr int kCopies = 20;
  for (int i = 0; i < kCopies; ++i) {
    device_->copy_on_device(second.data(), first.data(), kBytes, *stream);
  }
  stream->record(*end);
  EXPECT_FALSE(end->is_complete());  // 10 GB to read and write take milliseconds
  stream->synchronise();
  bool seen_elsewhere = false;
  std::thread([&] { seen_elsewhere = end->is_complete(); }).join();
  EXPECT_TRUE(seen_elsewhere);
  EXPECT_GT(end->seconds_since(*begin), 5e-4);
  EXPECT_LT(end->seconds_since(*begin), 10.0);
}

}  // namespace
}  // namespace ringtrain
