#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "ringtrain/core/device.h"

namespace ringtrain {

/// What carries a message over an emulated link on a GPU. Within one device no copy engine does,
/// and both take processors from attention.
enum class LinkTransport {
  kDeviceCopies,  ///< the driver's copies, which take those that come free
  kProcessors     ///< a kernel on `processors` of them, which are set aside for it
};

/// A link between two ranks, one direction.
struct LinkModel {
  double bytes_per_s = 370e9;
  double latency_s = 5e-6;  ///< of a message
  LinkTransport transport = LinkTransport::kDeviceCopies;
  int processors = 5;  ///< of kProcessors
};

/// One part of a message.
struct CopyPiece {
  void* to;
  const void* from;
  std::size_t bytes;  ///< a multiple of 16, as both addresses
};

/// Copies within one device that take as long as a message over a slower link: data really move,
/// and no sooner than the link would have brought them.
class PacedCopier {
 public:
  virtual ~PacedCopier() = default;
  /// With kProcessors, what is enqueued on `stream` from now until `stop` finds them taken, also
  /// between messages; else they are only while a message travels. Before it is stopped the host
  /// may not wait for the device, as it does where memory is freed or a kernel launched first.
  virtual void start(Stream& stream) = 0;
  virtual void stop(Stream& stream) = 0;
  /// Enqueues one message on `stream`, the same in every call, and returns without waiting.
  virtual void copy(std::span<const CopyPiece> message, Stream& stream) = 0;
};

/// For a CPU or CUDA device, which outlives it. Errors: InvalidArgument for a link without speed or
/// without the processors it needs.
std::unique_ptr<PacedCopier> make_paced_copier(Device& device, const LinkModel& link);
/// The same of a CUDA device only. Errors: DeviceError in a build without CUDA.
std::unique_ptr<PacedCopier> make_cuda_paced_copier(Device& device, const LinkModel& link);

}  // namespace ringtrain
