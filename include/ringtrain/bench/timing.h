#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "ringtrain/core/device.h"
#include "ringtrain/ops/backend.h"

/// What the benches share: timing by the device's clock, and tensors in memory of their own.
namespace ringtrain {

/// The middle one of `values`, which is not empty.
double median(std::vector<double> values);

/// Fills `out` with normal numbers, the same for equal keys; waits for the device.
void draw_normal(Device& device, Backend& ops, Tensor out, std::uint64_t key, Stream& stream,
                 double stddev = 1);

/// Milliseconds of single calls, which enqueue on `stream`: the median of `runs` after `warmups`.
double median_ms(Device& device, Stream& stream, int warmups, int runs,
                 const std::function<void()>& call);

/// A stream, the back end's workspace, and the tensors of one case.
class BenchTensors {
 public:
  /// The arguments must outlive this.
  BenchTensors(Device& device, Backend& ops);

  Tensor allocate(Shape shape, DType dtype);
  /// Normal numbers, the same for equal keys.
  Tensor random(Shape shape, DType dtype, std::uint64_t key, double stddev = 1);
  template <typename T>
  Tensor upload(const std::vector<T>& values, Shape shape, DType dtype) {
    return upload_bytes(values.data(), shape, dtype);
  }

  Stream& stream() { return *stream_; }

 private:
  Tensor upload_bytes(const void* values, Shape shape, DType dtype);

  Device& device_;
  Backend& ops_;
  std::unique_ptr<Stream> stream_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
};

}  // namespace ringtrain
