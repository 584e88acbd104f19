#include "peer_memory.h"

#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/backend/driver_function.h"

namespace ringtrain {

SharedStretch MemoryExporter::share(const void* address, std::size_t bytes) {
  static const auto attribute =
      driver_function<decltype(&cuPointerGetAttribute)>("cuPointerGetAttribute");
  static const auto range =
      driver_function<decltype(&cuMemGetAddressRange)>("cuMemGetAddressRange");
  unsigned long long id = 0;
  check_driver(attribute(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID, driver_address(address)),
               "cuPointerGetAttribute");
  auto found = allocations_.find(id);
  if (found == allocations_.end()) {
    Allocation allocation{};
    std::size_t size = 0;
    check_driver(range(&allocation.base, &size, driver_address(address)), "cuMemGetAddressRange");
    RT_CUDA_CHECK(
        cudaIpcGetMemHandle(&allocation.handle, reinterpret_cast<void*>(allocation.base)));
    found = allocations_.emplace(id, allocation).first;
  }
  return {found->second.handle, driver_address(address) - found->second.base, bytes};
}

void MemoryImporter::close() noexcept {
  for (const auto& [handle, base] : mapped_) cudaIpcCloseMemHandle(base);
  mapped_.clear();
}

void* MemoryImporter::map(const SharedStretch& stretch) {
  void*& base = mapped_[std::string(stretch.allocation.reserved, sizeof stretch.allocation)];
  if (base == nullptr) {
    RT_CUDA_CHECK(cudaIpcOpenMemHandle(&base, stretch.allocation, cudaIpcMemLazyEnablePeerAccess));
  }
  return static_cast<std::byte*>(base) + stretch.offset;
}

}  // namespace ringtrain
