#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "device_buffer.h"

/// What the programs of the attention kernels share: shapes and inputs.
namespace ringtrain::bench {

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

}  // namespace ringtrain::bench
