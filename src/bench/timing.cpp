#include "ringtrain/bench/timing.h"

#include <algorithm>
#include <utility>

namespace ringtrain {

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void draw_normal(Device& device, Backend& ops, Tensor out, std::uint64_t key, Stream& stream,
                 double stddev) {
  const Shape flat{out.num_elements()};
  const DeviceMemory memory(device, static_cast<std::size_t>(flat[0]) * sizeof(float));
  const Tensor drawn(memory.data(), DType::kFloat32, flat);
  ops.random_normal({drawn, key, 0, stddev}, stream);
  ops.cast(drawn, out.reshape(flat), stream);
  stream.synchronise();
}

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
  return median(std::move(seconds)) * 1e3;
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
  const Tensor tensor = allocate(shape, dtype);
  draw_normal(device_, ops_, tensor, key, *stream_, stddev);
  return tensor;
}

Tensor BenchTensors::upload_bytes(const void* values, Shape shape, DType dtype) {
  const Tensor tensor = allocate(shape, dtype);
  device_.copy_to_device(tensor.raw(), values, tensor.bytes(), *stream_);
  stream_->synchronise();
  return tensor;
}

}  // namespace ringtrain
