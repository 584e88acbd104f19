#pragma once

#include <cuda.h>

#include <cstdint>

namespace ringtrain {

/// A bf16 tensor [B, T, heads, H], row-major, for the copy engine: coordinates (column, token,
/// head, batch); a box is `rows` tokens of 64 columns of one head, stored as one 128-byte-swizzled
/// panel. Elements outside read as zeros and are not written.
struct PanelMap {
  const void* base;  // 16-byte aligned
  std::int64_t batch;
  std::int64_t tokens;        // that exist
  std::int64_t batch_tokens;  // from one batch entry to the next; at least `tokens`
  std::int64_t heads;
  std::int64_t head_dim;  // a multiple of 8
  int rows;               // at most 256
};

/// The descriptor of a panel map, a kernel parameter.
/// Errors: InvalidArgument for a tensor the copy engine cannot address; DeviceError if the driver
/// has no copy engine.
CUtensorMap encode_panel_map(const PanelMap& map);

}  // namespace ringtrain
