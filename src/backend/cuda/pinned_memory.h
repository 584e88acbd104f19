#pragma once

#include <cstddef>

namespace ringtrain {

/// Host memory that the current device copies to and from asynchronously: large pages, cleared by
/// all threads and then pinned. The driver's own allocation clears 4 KiB pages on one core.
class PinnedMemory {
 public:
  /// Errors: DeviceError naming the bytes wanted. Whether the host has so much is to be known
  /// before (core/host_memory.h): Linux ends a process that touches more.
  explicit PinnedMemory(std::size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  void* data() const { return data_; }  ///< aligned to a page

 private:
  void* data_;
  std::size_t bytes_;
};

}  // namespace ringtrain
