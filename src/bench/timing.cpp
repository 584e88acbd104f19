#include "ringtrain/bench/timing.h"

#include <algorithm>

namespace ringtrain {

double median_ms(Device& device, Stream& stream, int warmups, int runs,
                 const std::function<void()>& call) {
  for (int i = 0; i < warmups; ++i) call();
  std::vector<std::unique_ptr<Event>> begins, ends;
  for (int i = 0; i < runs; ++i) {
    begins.push_back(device.make_timed_event());
    ends.push_back(device.make_timed_event());
  }
  for (std::size_t i = 0; i < ends.size(); ++i) {
    stream.record(*begins[i]);
    call();
    stream.record(*ends[i]);
  }
  stream.synchronise();
  std::vector<double> seconds;
  for (std::size_t i = 0; i < ends.size(); ++i)
    seconds.push_back(ends[i]->seconds_since(*begins[i]));
  const auto middle = seconds.begin() + runs / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle * 1e3;
}

BenchTensors::BenchTensors(Device& device, Backend& ops)
    : device_(device), ops_(ops), stream_(device.make_stream(StreamPriority::kNormal)) {
  const auto words = static_cast<std::int64_t>(ops.workspace_bytes() / 4);
  ops.bind_workspace(allocate({words}, DType::kInt32));
}

Tensor BenchTensors::allocate(Shape shape, DType dtype) {
  const auto bytes = static_cast<std::size_t>(shape.num_elements()) * size_of(dtype);
  memory_.push_back(std::make_unique<DeviceMemory>(device_, bytes));
  return {memory_.back()->data(), dtype, shape};
}

Tensor BenchTensors::random(Shape shape, DType dtype, std::uint64_t key, double stddev) {
  const Tensor drawn = allocate({shape.num_elements()}, DType::kFloat32);
  ops_.random_normal({drawn, key, 0, stddev}, *stream_);
  if (dtype == DType::kFloat32) return drawn.reshape(shape);
  const Tensor rounded = allocate(shape, dtype);
  ops_.cast(drawn, rounded.reshape({shape.num_elements()}), *stream_);
  stream_->synchronise();
  memory_.erase(memory_.end() - 2);  // what was drawn
  return rounded;
}

Tensor BenchTensors::upload_bytes(const void* values, Shape shape, DType dtype) {
  const Tensor tensor = allocate(shape, dtype);
  device_.copy_to_device(tensor.raw(), values, tensor.bytes(), *stream_);
  stream_->synchronise();
  return tensor;
}

}  // namespace ringtrain
