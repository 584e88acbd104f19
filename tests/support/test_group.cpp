#include "support/test_group.h"

#include <cstddef>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

template <typename T>
void write(const std::vector<double>& values, std::vector<std::byte>& bytes) {
  bytes.resize(values.size() * sizeof(T));
  auto* to = reinterpret_cast<T*>(bytes.data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, bfloat16>) {
      to[i] = bfloat16(static_cast<float>(values[i]));
    } else {
      to[i] = static_cast<T>(values[i]);
    }
  }
}

template <typename T>
std::vector<double> read(const std::vector<std::byte>& bytes) {
  const auto* from = reinterpret_cast<const T*>(bytes.data());
  std::vector<double> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, bfloat16>) {
      values[i] = static_cast<float>(from[i]);
    } else {
      values[i] = static_cast<double>(from[i]);
    }
  }
  return values;
}

/// Calls body(T{}) with the C++ type of `dtype`.
template <typename Body>
auto with_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kFloat32:
      return body(float{});
    case DType::kFloat64:
      return body(double{});
    case DType::kBFloat16:
      return body(bfloat16{});
    case DType::kInt32:
      return body(std::int32_t{});
    case DType::kInt64:
      return body(std::int64_t{});
    case DType::kFloat16:
      break;
  }
  throw InvalidArgument("test groups have no fp16 tensors");
}

}  // namespace

TestGroup::TestGroup(DeviceType type)
    : device_(choose_device(test_world(), type == DeviceType::kCuda ? "cuda" : "cpu",
                            /*oversubscribe_gpu=*/true)),
      world_(test_world().make_communicator(*device_)),
      stream_(device_->make_stream(StreamPriority::kNormal)) {}

TestGroup& TestGroup::shared(DeviceType type) {
  // Never destroyed: MPI, NCCL and the driver may be gone when static objects are.
  if (type == DeviceType::kCuda) {
    static TestGroup* cuda = new TestGroup(DeviceType::kCuda);
    return *cuda;
  }
  static TestGroup* cpu = new TestGroup(DeviceType::kCpu);
  return *cpu;
}

Tensor TestGroup::upload(const std::vector<double>& values, DType dtype) {
  std::vector<std::byte> bytes;
  with_type(dtype, [&](auto type) { write<decltype(type)>(values, bytes); });
  memory_.push_back(std::make_unique<DeviceMemory>(*device_, bytes.size()));
  const Tensor tensor(memory_.back()->data(), dtype, {static_cast<std::int64_t>(values.size())});
  device_->copy_to_device(tensor.raw(), bytes.data(), bytes.size(), *stream_);
  stream_->synchronise();
  return tensor;
}

Tensor TestGroup::results(std::int64_t num_elements, DType dtype) {
  return upload(std::vector<double>(static_cast<std::size_t>(num_elements), -7), dtype);
}

std::vector<double> TestGroup::download(const Tensor& tensor, Stream& stream) {
  std::vector<std::byte> bytes(tensor.bytes());
  device_->copy_to_host(bytes.data(), tensor.raw(), bytes.size(), stream);
  stream.synchronise();
  return with_type(tensor.dtype(), [&](auto type) { return read<decltype(type)>(bytes); });
}

}  // namespace ringtrain
