#pragma once

#include <cuda.h>

#include <cstdint>

#include "ringtrain/core/dtype.h"

namespace ringtrain {

/// A tensor [B, T, heads, H], row-major, for the copy engine: coordinates (column, token, head,
/// batch); a box is `rows` tokens of 128 bytes of one head (64 columns in bf16, 32 in fp32), stored
/// as one 128-byte-swizzled panel, or of `box_heads` neighbouring heads, a panel each. Elements
/// outside read as zeros and are not written. A matrix has one head, or a head for every panel.
struct PanelMap {
  const void* base;  // 16-byte aligned
  std::int64_t batch;
  std::int64_t tokens;        // that exist
  std::int64_t batch_tokens;  // from one batch entry to the next; at least `tokens`
  std::int64_t heads;
  std::int64_t head_dim;           // in bytes a multiple of 16
  int rows;                        // at most 256
  DType dtype = DType::kBFloat16;  // or kFloat32
  int box_heads = 1;
};

/// The descriptor of a panel map, a kernel parameter.
/// Errors: InvalidArgument for a tensor the copy engine cannot address; DeviceError if the driver
/// has no copy engine.
CUtensorMap encode_panel_map(const PanelMap& map);

}  // namespace ringtrain
