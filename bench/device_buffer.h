#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "fill_normal.h"
#include "ringtrain/backend/cuda_check.h"

/// What the programs that check and time one kernel share: device memory and timing.
namespace ringtrain::bench {

using bf16 = __nv_bfloat16;

template <typename T>
class Buffer {
 public:
  explicit Buffer(std::size_t size = 0) : size_(size) {
    void* data = nullptr;
    RT_CUDA_CHECK(cudaMalloc(&data, std::max<std::size_t>(size, 1) * sizeof(T)));
    data_ = static_cast<T*>(data);
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    RT_CUDA_CHECK(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const { return data_; }
  std::size_t size() const { return size_; }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    RT_CUDA_CHECK(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }
  void poison() { RT_CUDA_CHECK(cudaMemset(data_, 0xFF, size_ * sizeof(T))); }  // NaN everywhere

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

inline void fill(Buffer<bf16>& out, std::uint32_t seed, float scale = 1.0f) {
  fill_normal(out.get(), out.size(), seed, scale);
}

/// Median of `runs` launches, each between two events, after `warm` of them.
inline float median_ms(const std::function<void()>& launch, int warm, int runs) {
  for (int i = 0; i < warm; ++i) launch();
  std::vector<cudaEvent_t> events(std::size_t(2 * runs));
  for (auto& event : events) RT_CUDA_CHECK(cudaEventCreate(&event));
  for (int i = 0; i < runs; ++i) {
    RT_CUDA_CHECK(cudaEventRecord(events[std::size_t(2 * i)]));
    launch();
    RT_CUDA_CHECK(cudaEventRecord(events[std::size_t(2 * i + 1)]));
  }
  RT_CUDA_CHECK(cudaDeviceSynchronize());
  std::vector<float> times(std::size_t(runs), 0.0f);
  for (int i = 0; i < runs; ++i) {
    RT_CUDA_CHECK(cudaEventElapsedTime(&times[std::size_t(i)], events[std::size_t(2 * i)],
                                       events[std::size_t(2 * i + 1)]));
  }
  for (auto& event : events) cudaEventDestroy(event);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace ringtrain::bench
