#include "support/test_device.h"

#include <cstddef>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{256} << 20;

std::unique_ptr<Device> make_device(DeviceType type) {
  return type == DeviceType::kCuda ? make_cuda_device(0) : make_cpu_device();
}

template <typename T>
std::vector<T> converted(const HostTensor& tensor) {
  std::vector<T> values;
  values.reserve(tensor.values.size());
  for (const double value : tensor.values) {
    if constexpr (std::is_same_v<T, bfloat16>) {
      values.emplace_back(static_cast<float>(value));
    } else {
      values.push_back(static_cast<T>(value));
    }
  }
  return values;
}

template <typename T>
HostTensor read(const std::vector<std::byte>& bytes, Shape shape) {
  HostTensor tensor(shape);
  const T* values = reinterpret_cast<const T*>(bytes.data());
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    if constexpr (std::is_same_v<T, bfloat16>) {
      tensor[i] = static_cast<float>(values[i]);
    } else {
      tensor[i] = static_cast<double>(values[i]);
    }
  }
  return tensor;
}

}  // namespace

TestDevice::TestDevice(DeviceType type, bool deterministic)
    : device_(make_device(type)),
      stream_(device_->make_stream(StreamPriority::kNormal)),
      memory_(*device_, kArenaBytes),
      arena_(memory_.data(), memory_.bytes()),
      backend_(type == DeviceType::kCuda ? make_cuda_backend(*device_, deterministic)
                                         : make_cpu_backend()) {
  const auto words = static_cast<std::int64_t>((backend_->workspace_bytes() + 3) / 4);
  backend_->bind_workspace(arena_.allocate({words}, DType::kInt32, MemoryKind::kWorkspace));
}

TestDevice& TestDevice::shared(DeviceType type) {
  if (type == DeviceType::kCuda) {
    static TestDevice cuda(DeviceType::kCuda);
    return cuda;
  }
  static TestDevice cpu(DeviceType::kCpu);
  return cpu;
}

Tensor TestDevice::upload(const HostTensor& values, DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return upload_bytes(converted<float>(values).data(), values.shape, dtype);
    case DType::kFloat64:
      return upload_bytes(converted<double>(values).data(), values.shape, dtype);
    case DType::kBFloat16:
      return upload_bytes(converted<bfloat16>(values).data(), values.shape, dtype);
    default:
      throw InvalidArgument("integers are uploaded from vectors of integers");
  }
}

Tensor TestDevice::upload(const std::vector<std::int32_t>& values) {
  return upload(values, {static_cast<std::int64_t>(values.size())});
}

Tensor TestDevice::upload(const std::vector<std::int32_t>& values, Shape shape) {
  return upload_bytes(values.data(), shape, DType::kInt32);
}

Tensor TestDevice::upload(const std::vector<std::int64_t>& values, Shape shape) {
  return upload_bytes(values.data(), shape, DType::kInt64);
}

Tensor TestDevice::poisoned(Shape shape, DType dtype) {
  const std::vector<std::byte> ones(static_cast<std::size_t>(shape.num_elements()) * size_of(dtype),
                                    std::byte{0xff});
  return upload_bytes(ones.data(), shape, dtype);
}

HostTensor TestDevice::download(const Tensor& tensor) {
  std::vector<std::byte> bytes(tensor.bytes());
  device_->copy_to_host(bytes.data(), tensor.raw(), bytes.size(), *stream_);
  stream_->synchronise();
  switch (tensor.dtype()) {
    case DType::kFloat32:
      return read<float>(bytes, tensor.shape());
    case DType::kFloat64:
      return read<double>(bytes, tensor.shape());
    case DType::kBFloat16:
      return read<bfloat16>(bytes, tensor.shape());
    default:
      throw InvalidArgument("only floating-point tensors are downloaded");
  }
}

Tensor TestDevice::upload_bytes(const void* data, Shape shape, DType dtype) {
  const Tensor tensor = arena_.allocate(shape, dtype, MemoryKind::kActivations);
  device_->copy_to_device(tensor.raw(), data, tensor.bytes(), *stream_);
  stream_->synchronise();  // `data` may be gone when the copy is made
  return tensor;
}

}  // namespace ringtrain
