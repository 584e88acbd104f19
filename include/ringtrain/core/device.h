#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace ringtrain {

/// kMeta has no memory and computes nothing: running a step on it lays out the arena (see Arena).
enum class DeviceType { kCpu, kCuda, kMeta };

/// A point in the work of a stream. Created by Device::make_event, recorded by Stream::record.
class Event {
 public:
  virtual ~Event() = default;
  /// Blocks the host until the marked work is done. Errors: DeviceError if it failed.
  virtual void synchronise() = 0;
  /// True once the marked work is done, or if there is none; never blocks. Callable from any thread
  /// while the event is not recorded again. Errors: DeviceError if the work failed.
  virtual bool is_complete() const = 0;
  /// Seconds between the ends of the work marked by `earlier` and by this, both complete and of
  /// Device::make_timed_event; 0 on the meta device.
  virtual double seconds_since(const Event& earlier) const = 0;
};

/// An ordered queue of work on one device. Work enqueued on it runs in order; nothing else is
/// ordered unless an Event says so. On the CPU operations run at once, and the queue holds only
/// communication that has been started and not completed.
class Stream {
 public:
  virtual ~Stream() = default;
  /// Marks the work enqueued so far; a later record replaces the mark.
  virtual void record(Event& event) = 0;
  /// Work enqueued after this call starts after the work marked by `event`. An event that was
  /// never recorded is complete.
  virtual void wait(const Event& event) = 0;
  /// Blocks the host until all enqueued work is done. Errors: DeviceError if some of it failed.
  virtual void synchronise() = 0;
  /// cudaStream_t on CUDA devices, nullptr elsewhere.
  virtual void* native() const = 0;
};

enum class StreamPriority { kNormal, kHigh };

/// One device as seen by one rank: its memory, streams and copies. Not thread-safe except where
/// said; all methods but the copies may be called from any thread.
class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceType type() const = 0;
  /// For the log: "NVIDIA H100 80GB HBM3 (cuda:0)", "cpu, 8 threads".
  virtual std::string name() const = 0;
  /// Equal on two ranks iff they share a GPU, "GPU-8f3c..."; empty on other devices.
  virtual std::string uuid() const = 0;

  virtual std::unique_ptr<Stream> make_stream(StreamPriority priority) = 0;
  virtual std::unique_ptr<Event> make_event() = 0;
  /// An event that also tells the time; recording it costs a GPU somewhat more.
  virtual std::unique_ptr<Event> make_timed_event() = 0;

  /// Device memory, at least 1024-byte aligned, contents undefined. Errors: DeviceError naming
  /// the bytes wanted and free.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void deallocate(void* memory) noexcept = 0;
  /// Host memory that copies to and from this device asynchronously (pinned on CUDA), at least
  /// 1024-byte aligned.
  virtual void* allocate_host(std::size_t bytes) = 0;
  virtual void deallocate_host(void* memory) noexcept = 0;

  /// Enqueue a copy of `bytes`; on CUDA asynchronous if the host side came from allocate_host.
  virtual void copy_to_device(void* device, const void* host, std::size_t bytes,
                              Stream& stream) = 0;
  virtual void copy_to_host(void* host, const void* device, std::size_t bytes, Stream& stream) = 0;
  /// Enqueues a copy from device memory to device memory; the two must not overlap.
  virtual void copy_on_device(void* to, const void* from, std::size_t bytes, Stream& stream) = 0;

  /// Bytes of device memory free and in all; on the CPU the host's.
  struct MemoryInfo {
    std::size_t free_bytes;
    std::size_t total_bytes;
  };
  virtual MemoryInfo memory() const = 0;
  /// Seconds that the host has spent completing communication, where that is the host's work (CPU);
  /// streams of other devices wait by themselves: 0.
  virtual double communication_wait_s() const = 0;
  /// Dense bf16 FLOP/s of the data sheet, the denominator of MFU; 0 where it is not known.
  virtual double peak_flops() const = 0;
};

std::unique_ptr<Device> make_cpu_device();
std::unique_ptr<Device> make_meta_device();
/// Errors: DeviceError if the build has no CUDA, there is no driver, or no such ordinal.
std::unique_ptr<Device> make_cuda_device(int ordinal);
/// GPUs visible to this process; 0 without a driver or in a build without CUDA. Never throws.
int cuda_device_count() noexcept;

/// Owns one Device allocation.
class DeviceMemory {
 public:
  DeviceMemory(Device& device, std::size_t bytes)
      : device_(device), data_(device.allocate(bytes)), bytes_(bytes) {}
  ~DeviceMemory() { device_.deallocate(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  Device& device_;
  void* data_;
  std::size_t bytes_;
};

/// Owns one host allocation made by Device::allocate_host.
class HostMemory {
 public:
  HostMemory(Device& device, std::size_t bytes)
      : device_(device), data_(device.allocate_host(bytes)), bytes_(bytes) {}
  ~HostMemory() { device_.deallocate_host(data_); }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  Device& device_;
  void* data_;
  std::size_t bytes_;
};

}  // namespace ringtrain
