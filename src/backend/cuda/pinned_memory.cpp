#include "pinned_memory.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

// A piece that one thread clears at a time; a whole number of large pages (2 MiB).
constexpr std::size_t kPiece = std::size_t{32} << 20;

[[noreturn]] void out_of_memory(std::size_t bytes, const char* why) {
  throw DeviceError(fmt::format("no pinned host memory: {} bytes wanted ({})", bytes, why));
}

}  // namespace

PinnedMemory::PinnedMemory(std::size_t bytes) : bytes_(std::max<std::size_t>(bytes, 1)) {
  data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data_ == MAP_FAILED) out_of_memory(bytes, std::strerror(errno));
  madvise(data_, bytes_, MADV_HUGEPAGE);  // a wish
  madvise(data_, bytes_, MADV_DONTFORK);  // a child's copy on write would move pages of a transfer
  const auto num_pieces = static_cast<std::int64_t>((bytes_ + kPiece - 1) / kPiece);
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < num_pieces; ++i) {
    const std::size_t begin = static_cast<std::size_t>(i) * kPiece;
    std::memset(static_cast<std::byte*>(data_) + begin, 0, std::min(kPiece, bytes_ - begin));
  }
  const cudaError_t pinned = cudaHostRegister(data_, bytes_, cudaHostRegisterDefault);
  if (pinned == cudaSuccess) return;
  cudaGetLastError();  // reported here; later calls must not see it
  munmap(data_, bytes_);
  out_of_memory(bytes, cudaGetErrorString(pinned));
}

PinnedMemory::~PinnedMemory() {
  cudaDeviceSynchronize();  // copies that an error has left behind
  cudaHostUnregister(data_);
  munmap(data_, bytes_);
}

}  // namespace ringtrain
