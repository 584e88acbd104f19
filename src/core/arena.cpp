#include "ringtrain/core/arena.h"

#include <fmt/format.h>

#include <cstdint>
#include <limits>

#include "ringtrain/core/error.h"

namespace ringtrain {

std::string_view name_of(MemoryKind kind) {
  constexpr std::array<std::string_view, kNumMemoryKinds> kNames{
      "parameters", "gradients", "optimizer", "activations", "workspace", "ring", "batch"};
  return kNames[static_cast<std::size_t>(kind)];
}

Arena::Arena(void* memory, std::size_t bytes)
    : memory_(static_cast<std::byte*>(memory)), bytes_(bytes) {
  if (reinterpret_cast<std::uintptr_t>(memory) % kAlignment != 0) {
    throw DeviceError("arena memory must be aligned to 1024 bytes");
  }
}

Arena Arena::measuring() {
  // Any aligned address but null: a default-constructed Tensor means "absent".
  return {reinterpret_cast<void*>(std::uintptr_t{1} << 40),
          std::numeric_limits<std::size_t>::max() / 4};
}

Tensor Arena::allocate(Shape shape, DType dtype, MemoryKind kind) {
  const Tensor tensor(memory_ + used_, dtype, shape);
  const std::size_t bytes = aligned(tensor.bytes());
  if (bytes > bytes_ - used_) {
    throw DeviceError(
        fmt::format("out of device memory: {} tensor {} of {} needs {} bytes, {} of {} are used",
                    name_of(kind), shape.to_string(), name_of(dtype), bytes, used_, bytes_));
  }
  used_ += bytes;
  used_by_kind_[static_cast<std::size_t>(kind)] += bytes;
  if (used_ > peak_) {
    peak_ = used_;
    peak_by_kind_ = used_by_kind_;
  }
  return tensor;
}

}  // namespace ringtrain
