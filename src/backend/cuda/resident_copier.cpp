#include "resident_copier.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>

#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/backend/driver_function.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention_sm90.h"
#include "ringtrain/kernels/resident_copy.h"

namespace ringtrain {
namespace {

cudaStream_t native(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.native());
}

/// Messages go through a mailbox in device memory: streams write and await its words by themselves,
/// so that a message needs no SM but those that carry it.
class ResidentCopier final : public PacedCopier {
 public:
  ResidentCopier(Device& device, const LinkModel& link)
      : link_(checked(link)),
        write_(driver_function<decltype(&cuStreamWriteValue32)>("cuStreamWriteValue32")),
        wait_(driver_function<decltype(&cuStreamWaitValue32)>("cuStreamWaitValue32")),
        memory_(device, sizeof(kernels::CopyMailbox)),
        kernel_stream_(device.make_stream(StreamPriority::kHigh)),
        other_stream_(device.make_stream(StreamPriority::kHigh)),
        event_(device.make_event()) {
    RT_CUDA_CHECK(cudaMemsetAsync(mailbox(), 0, memory_.bytes(), native(*kernel_stream_)));
    kernel_stream_->synchronise();  // other streams use it too
  }
  ~ResidentCopier() override {
    try {
      if (is_started_) stop(*other_stream_);
      kernel_stream_->synchronise();
    } catch (const Error&) {  // the device is lost, and the program about to end
    }
  }
  ResidentCopier(const ResidentCopier&) = delete;
  ResidentCopier& operator=(const ResidentCopier&) = delete;

  void start(Stream& stream) override {
    stream.record(*event_);
    kernel_stream_->wait(*event_);
    kernels::launch_resident_copy({.mailbox = mailbox(),
                                   .first_message = posted_ + 1,
                                   .processors = link_.processors,
                                   .bytes_per_ns = link_.bytes_per_s * 1e-9,
                                   .wait_ns = static_cast<std::int64_t>(link_.latency_s * 1e9)},
                                  native(*kernel_stream_));
    is_started_ = true;
    resident_ += static_cast<std::uint32_t>(link_.processors);
    await(&mailbox()->resident, resident_, stream);
  }
  void stop(Stream& stream) override {
    carry({}, stream);
    is_started_ = false;
    kernel_stream_->record(*event_);
    stream.wait(*event_);
  }

  void copy(std::span<const CopyPiece> pieces, Stream& stream) override {
    kernels::CopyMessage message{};
    if (pieces.empty() || pieces.size() > message.pieces.size()) {
      throw InvalidArgument("a message over an emulated link has 1 to 8 parts");
    }
    for (const CopyPiece& piece : pieces) {
      if (piece.bytes % sizeof(uint4) != 0) {
        throw InvalidArgument(fmt::format(
            "--ring_transport=sm carries messages of whole 16 bytes, not of {}", piece.bytes));
      }
      message.pieces[static_cast<std::size_t>(message.num_pieces++)] = {
          piece.from, piece.to, static_cast<std::int64_t>(piece.bytes)};
    }
    const bool is_alone = !is_started_;
    if (is_alone) start(stream);
    carry(message, stream);
    if (is_alone) stop(stream);
  }

 private:
  /// All blocks of the kernel must find room at once, and leave some.
  static const LinkModel& checked(const LinkModel& link) {
    const int all = kernels::num_processors();
    if (link.processors < 1 || link.processors >= all) {
      throw InvalidArgument(
          fmt::format("--ring_sms={}: messages take at least one SM, and fewer than "
                      "the {} of this GPU",
                      link.processors, all));
    }
    return link;
  }
  kernels::CopyMailbox* mailbox() const {
    return static_cast<kernels::CopyMailbox*>(memory_.data());
  }
  /// Enqueues the message and waits, on `stream`, until it is carried.
  void carry(const kernels::CopyMessage& message, Stream& stream) {
    await(&mailbox()->carried, posted_, stream);  // the one before has left the mailbox
    // From pageable memory: read before the call returns.
    RT_CUDA_CHECK(cudaMemcpyAsync(&mailbox()->message, &message, sizeof message,
                                  cudaMemcpyHostToDevice, native(stream)));
    check_driver(write_(native(stream), driver_address(&mailbox()->posted), ++posted_,
                        CU_STREAM_WRITE_VALUE_DEFAULT),
                 "cuStreamWriteValue32");
    await(&mailbox()->carried, posted_, stream);
  }
  void await(std::uint32_t* word, std::uint32_t value, Stream& stream) const {
    check_driver(wait_(native(stream), driver_address(word), value, CU_STREAM_WAIT_VALUE_GEQ),
                 "cuStreamWaitValue32");
  }

  LinkModel link_;
  decltype(&cuStreamWriteValue32) write_;
  decltype(&cuStreamWaitValue32) wait_;
  DeviceMemory memory_;
  std::unique_ptr<Stream> kernel_stream_;
  std::unique_ptr<Stream> other_stream_;  // tells the kernel to end where nobody else has
  std::unique_ptr<Event> event_;
  bool is_started_ = false;
  std::uint32_t posted_ = 0;
  std::uint32_t resident_ = 0;  // blocks of all kernels so far
};

}  // namespace

std::unique_ptr<PacedCopier> make_resident_copier(Device& device, const LinkModel& link) {
  return std::make_unique<ResidentCopier>(device, link);
}

}  // namespace ringtrain
