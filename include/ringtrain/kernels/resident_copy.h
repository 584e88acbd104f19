#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>

/// Copies within a device that take as long as a slower link would, by a kernel that stays.
/// Messages are posted to it in a mailbox.
namespace ringtrain::kernels {

/// What a link carries at once. Raw device pointers, checked by the caller.
struct CopyMessage {
  struct Piece {
    const void* from;
    void* to;
    std::int64_t bytes;  // a multiple of 16, as both addresses
  };
  static constexpr int kMostPieces = 8;
  std::array<Piece, kMostPieces> pieces;
  int num_pieces;  // 0: the kernel ends
};

/// In device memory, zero at first: a message, and the words by which streams and kernel tell each
/// other how far they are, modulo 2^32.
struct CopyMailbox {
  CopyMessage message;  // number `posted`
  std::uint32_t posted;
  std::uint32_t carried;
  std::uint32_t resident;  // blocks that have begun
  std::uint32_t arrived;   // blocks that have done their share of a message
};

struct ResidentCopyArgs {
  CopyMailbox* mailbox;
  std::uint32_t first_message;  // its number; the others follow
  int processors;               // of the device, taken until the kernel ends
  double bytes_per_ns;          // of the link
  std::int64_t wait_ns;         // from a message's beginning to its first byte
};
/// Enqueues the kernel on `stream`. A message is carried `wait_ns` + bytes of all pieces /
/// `bytes_per_ns` after it was posted at the earliest. Errors: DeviceError if the launch is
/// refused.
void launch_resident_copy(const ResidentCopyArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
