#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace ringtrain {

/// A stretch of one process's device memory, as another process of the host may map it. Sent as it
/// is in memory.
struct SharedStretch {
  cudaIpcMemHandle_t allocation;
  std::uint64_t offset;
  std::uint64_t bytes;
};

/// Makes device memory of this process known to others.
class MemoryExporter {
 public:
  /// `address` lies in memory of Device::allocate. Errors: DeviceError if it cannot be shared.
  SharedStretch share(const void* address, std::size_t bytes);

 private:
  struct Allocation {
    CUdeviceptr base;
    cudaIpcMemHandle_t handle;
  };
  std::map<unsigned long long, Allocation> allocations_;  // by the driver's id, never used twice
};

/// Maps device memory of other processes.
class MemoryImporter {
 public:
  MemoryImporter() = default;
  ~MemoryImporter() { close(); }
  MemoryImporter(const MemoryImporter&) = delete;
  MemoryImporter& operator=(const MemoryImporter&) = delete;

  /// The address of `stretch`, of another process, in this one. Errors: DeviceError.
  void* map(const SharedStretch& stretch);
  /// Of all that is mapped, no address is valid any more.
  void close() noexcept;

 private:
  std::map<std::string, void*> mapped_;  // by the bytes of the handle
};

}  // namespace ringtrain
