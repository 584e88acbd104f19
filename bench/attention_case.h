#pragma once

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "attention_reference.h"
#include "ringtrain/backend/cuda_check.h"

/// What the programs of the attention kernels share: buffers, shapes, inputs, timing.
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

struct Sizes {
  int batch, query_tokens, key_tokens, query_heads, kv_heads, head_dim;
  std::size_t query_size() const {
    return std::size_t(batch) * query_tokens * query_heads * head_dim;
  }
  std::size_t key_size() const { return std::size_t(batch) * key_tokens * kv_heads * head_dim; }
  std::size_t rows() const { return std::size_t(batch) * query_tokens * query_heads; }
  std::string name() const {
    return fmt::format("B{} Tq{} Tk{} N{} K{} H{}", batch, query_tokens, key_tokens, query_heads,
                       kv_heads, head_dim);
  }
};

struct Inputs {
  explicit Inputs(const Sizes& s, float query_scale = 1, float key_scale = 1)
      : query(s.query_size()), key(s.key_size()), value(s.key_size()) {
    fill(query, 1, query_scale);
    fill(key, 2, key_scale);
    fill(value, 3);
  }
  Buffer<bf16> query, key, value;
};

inline std::vector<std::int32_t> iota(int count, int first = 0) {
  std::vector<std::int32_t> positions(std::size_t(count), 0);
  for (int i = 0; i < count; ++i) positions[std::size_t(i)] = first + i;
  return positions;
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
