#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ringtrain/comm/communicator.h"
#include "ringtrain/core/device.h"
#include "support/gpu.h"
#include "support/test_world.h"

namespace ringtrain {

/// All ranks of the test world as one group on devices of one type, with streams and the way of
/// numbers there and back. Ranks share GPUs where there are too few.
class TestGroup {
 public:
  /// The group of this type that all tests of the process share. Collective at its first use.
  static TestGroup& shared(DeviceType type);

  Device& device() { return *device_; }
  Communicator& world() { return *world_; }
  Stream& stream() { return *stream_; }

  /// `values` as `dtype` in device memory, which lives until `release`.
  Tensor upload(const std::vector<double>& values, DType dtype);
  /// For results: every element is -7, which no test expects.
  Tensor results(std::int64_t num_elements, DType dtype);
  /// The numbers of `tensor` after all work of `stream`.
  std::vector<double> download(const Tensor& tensor, Stream& stream);
  std::vector<double> download(const Tensor& tensor) { return download(tensor, *stream_); }
  void release() { memory_.clear(); }

 private:
  explicit TestGroup(DeviceType type);

  std::unique_ptr<Device> device_;
  std::unique_ptr<Communicator> world_;
  std::unique_ptr<Stream> stream_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
};

}  // namespace ringtrain

/// Skips a test of this device type visibly where there is no GPU, or one for more than four ranks;
/// the lack of a GPU is a failure under RINGTRAIN_REQUIRE_GPU=1.
#define RT_SKIP_WITHOUT_DEVICE(type)                                                 \
  do {                                                                               \
    if ((type) == ::ringtrain::DeviceType::kCuda) {                                  \
      RT_SKIP_WITHOUT_GPU();                                                         \
      if (::ringtrain::test_world().size() > 4 * ::ringtrain::cuda_device_count()) { \
        GTEST_SKIP() << "more than four ranks would share a GPU";                    \
      }                                                                              \
    }                                                                                \
  } while (false)
