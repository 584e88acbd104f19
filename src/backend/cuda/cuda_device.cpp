#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "pinned_memory.h"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/arena.h"
#include "ringtrain/core/device.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

cudaStream_t native(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.native());
}

class CudaEvent final : public Event {
 public:
  /// `flags`: of cudaEventCreateWithFlags. The device `ordinal` is current.
  CudaEvent(int ordinal, unsigned flags) : ordinal_(ordinal) {
    RT_CUDA_CHECK(cudaEventCreateWithFlags(&event_, flags));
  }
  ~CudaEvent() override { cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  void synchronise() override { RT_CUDA_CHECK(cudaEventSynchronize(event_)); }
  bool is_complete() const override {
    // A thread that has made no device current would start a context on the first one.
    RT_CUDA_CHECK(cudaSetDevice(ordinal_));
    const cudaError_t status = cudaEventQuery(event_);
    if (status == cudaErrorNotReady) {
      cudaGetLastError();  // no error, but remembered as one
      return false;
    }
    RT_CUDA_CHECK(status);
    return true;
  }
  double seconds_since(const Event& earlier) const override {
    constexpr double kMillisecond = 1e-3;
    float milliseconds = 0;
    RT_CUDA_CHECK(cudaEventElapsedTime(&milliseconds,
                                       dynamic_cast<const CudaEvent&>(earlier).event_, event_));
    return kMillisecond * static_cast<double>(milliseconds);
  }
  cudaEvent_t native() const { return event_; }

 private:
  int ordinal_;
  cudaEvent_t event_ = nullptr;
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(StreamPriority priority) {
    int least = 0;
    int greatest = 0;  // numerically the smallest: CUDA counts priorities downwards
    RT_CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    RT_CUDA_CHECK(cudaStreamCreateWithPriority(
        &stream_, cudaStreamNonBlocking, priority == StreamPriority::kHigh ? greatest : least));
  }
  ~CudaStream() override { cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  void record(Event& event) override {
    RT_CUDA_CHECK(cudaEventRecord(dynamic_cast<CudaEvent&>(event).native(), stream_));
  }
  void wait(const Event& event) override {
    RT_CUDA_CHECK(cudaStreamWaitEvent(stream_, dynamic_cast<const CudaEvent&>(event).native(), 0));
  }
  void synchronise() override { RT_CUDA_CHECK(cudaStreamSynchronize(stream_)); }
  void* native() const override { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Dense bf16 tensor-core FLOP/s of the data sheets; first match of the name wins.
double peak_flops_of(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, double>, 13> kPeaks{{
      {"H100 PCIe", 756e12},
      {"H100 NVL", 835e12},
      {"H100", 989e12},
      {"H200", 989e12},
      {"H800", 989e12},
      {"GH200", 989e12},
      {"B200", 2250e12},
      {"B300", 2250e12},
      {"A100", 312e12},
      {"A800", 312e12},
      {"L40S", 362e12},
      {"RTX 4090", 165e12},
      {"A10", 125e12},
  }};
  for (const auto& [part, flops] : kPeaks) {
    if (name.find(part) != std::string_view::npos) return flops;
  }
  return 0;
}

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int ordinal) : ordinal_(ordinal) {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) {
      throw DeviceError(fmt::format("no usable GPU: {} ({}); run with --device=cpu",
                                    cudaGetErrorString(status), cudaGetErrorName(status)));
    }
    if (ordinal < 0 || ordinal >= count) {
      throw DeviceError(fmt::format(
          "no GPU with ordinal {}: this process sees {} (CUDA_VISIBLE_DEVICES)", ordinal, count));
    }
    use();
    cudaDeviceProp properties{};
    RT_CUDA_CHECK(cudaGetDeviceProperties(&properties, ordinal));
    name_ = properties.name;
    uuid_ = properties.uuid;
    if (properties.major < 8) {
      throw DeviceError(fmt::format("{} has compute capability {}.{}; 8.0 or later is needed",
                                    name_, properties.major, properties.minor));
    }
  }

  DeviceType type() const override { return DeviceType::kCuda; }
  std::string name() const override { return fmt::format("{} (cuda:{})", name_, ordinal_); }
  std::string uuid() const override {
    std::string text = "GPU-";
    for (int i = 0; i < 16; ++i) {
      if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
      text += fmt::format("{:02x}", static_cast<unsigned char>(uuid_.bytes[i]));
    }
    return text;
  }

  std::unique_ptr<Stream> make_stream(StreamPriority priority) override {
    use();
    return std::make_unique<CudaStream>(priority);
  }
  std::unique_ptr<Event> make_event() override {
    use();
    return std::make_unique<CudaEvent>(ordinal_, cudaEventDisableTiming);
  }
  std::unique_ptr<Event> make_timed_event() override {
    use();
    return std::make_unique<CudaEvent>(ordinal_, cudaEventDefault);
  }

  void* allocate(std::size_t bytes) override {
    use();
    // cudaMalloc promises 256 bytes; what the arena wants beyond that is made here.
    constexpr std::size_t kSlack = Arena::kAlignment - 256;
    void* base = nullptr;
    const cudaError_t status = cudaMalloc(&base, bytes + kSlack);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // the error is reported here; later calls must not see it
      throw DeviceError(fmt::format("out of device memory on {}: {} bytes wanted, {} of {} free",
                                    name(), bytes, memory().free_bytes, memory().total_bytes));
    }
    RT_CUDA_CHECK(status);
    return remember(base);
  }
  void deallocate(void* memory) noexcept override {
    if (void* const base = forget(memory)) cudaFree(base);
  }

  void* allocate_host(std::size_t bytes) override {
    use();
    auto memory = std::make_unique<PinnedMemory>(bytes);
    void* const data = memory->data();
    const std::lock_guard lock(mutex_);
    pinned_[data] = std::move(memory);
    return data;
  }
  void deallocate_host(void* memory) noexcept override {
    decltype(pinned_)::node_type freed;  // takes a while: not under the lock
    const std::lock_guard lock(mutex_);
    freed = pinned_.extract(memory);
  }

  void copy_to_device(void* device, const void* host, std::size_t bytes, Stream& stream) override {
    if (bytes == 0) return;
    RT_CUDA_CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, native(stream)));
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes, Stream& stream) override {
    if (bytes == 0) return;
    RT_CUDA_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, native(stream)));
  }
  void copy_on_device(void* to, const void* from, std::size_t bytes, Stream& stream) override {
    if (bytes == 0) return;
    RT_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(stream)));
  }

  MemoryInfo memory() const override {
    use();
    MemoryInfo info{};
    RT_CUDA_CHECK(cudaMemGetInfo(&info.free_bytes, &info.total_bytes));
    return info;
  }
  double communication_wait_s() const override { return 0; }
  double peak_flops() const override { return peak_flops_of(name_); }

 private:
  // The current device is a property of the calling thread.
  void use() const { RT_CUDA_CHECK(cudaSetDevice(ordinal_)); }

  // The first aligned address from `base` on, under which `forget` finds it.
  void* remember(void* base) {
    const auto address = reinterpret_cast<std::uintptr_t>(base);
    void* const aligned = reinterpret_cast<void*>((address + Arena::kAlignment - 1) /
                                                  Arena::kAlignment * Arena::kAlignment);
    const std::lock_guard lock(mutex_);
    bases_[aligned] = base;
    return aligned;
  }
  void* forget(void* aligned) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = bases_.find(aligned);
    if (found == bases_.end()) return nullptr;
    void* const base = found->second;
    bases_.erase(found);
    return base;
  }

  int ordinal_;
  std::string name_;
  cudaUUID_t uuid_{};
  std::mutex mutex_;
  std::unordered_map<void*, void*> bases_;  // what CUDA gave, by the aligned address
  std::unordered_map<void*, std::unique_ptr<PinnedMemory>> pinned_;  // by its address
};

}  // namespace

int cuda_device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

std::unique_ptr<Device> make_cuda_device(int ordinal) {
  return std::make_unique<CudaDevice>(ordinal);
}

}  // namespace ringtrain
