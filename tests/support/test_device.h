#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ringtrain/core/arena.h"
#include "ringtrain/core/device.h"
#include "ringtrain/ops/backend.h"
#include "support/host_tensor.h"

namespace ringtrain {

/// A device with its back end, a stream and an arena, and the way of test numbers there and back.
/// Tensors live until the innermost Arena::Scope of `arena()` ends.
class TestDevice {
 public:
  /// `deterministic` as in make_cuda_backend.
  explicit TestDevice(DeviceType type, bool deterministic = true);

  /// The device of this type that all tests of the process share.
  static TestDevice& shared(DeviceType type);

  Device& device() { return *device_; }
  Backend& backend() { return *backend_; }
  Stream& stream() { return *stream_; }
  Arena& arena() { return arena_; }

  /// `values`, rounded to `dtype`, on the device.
  Tensor upload(const HostTensor& values, DType dtype);
  Tensor upload(const std::vector<std::int32_t>& values);
  Tensor upload(const std::vector<std::int32_t>& values, Shape shape);
  Tensor upload(const std::vector<std::int64_t>& values, Shape shape);
  /// For results: filled with NaN (all bits set), so that an element nobody writes is noticed.
  Tensor poisoned(Shape shape, DType dtype);
  /// The numbers of a floating-point tensor after all work of the stream.
  HostTensor download(const Tensor& tensor);

 private:
  Tensor upload_bytes(const void* data, Shape shape, DType dtype);

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  DeviceMemory memory_;
  Arena arena_;
  std::unique_ptr<Backend> backend_;
};

}  // namespace ringtrain
