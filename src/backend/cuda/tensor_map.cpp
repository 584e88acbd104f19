#include "ringtrain/backend/tensor_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ringtrain/backend/driver_function.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
CUtensorMap encode_panel_map(const PanelMap& map) {
  static const auto encode =
      driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  const bool is_fp32 = map.dtype == DType::kFloat32;
  const std::uint64_t element_bytes = is_fp32 ? 4 : 2;
  const std::uint32_t panel_columns = is_fp32 ? 32 : 64;
  const auto extent = [](std::int64_t size) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1));
  };
  const std::uint64_t head_bytes = extent(map.head_dim) * element_bytes;
  const std::uint64_t token_bytes = extent(map.heads) * head_bytes;
  const std::array<std::uint64_t, 4> sizes{extent(map.head_dim), extent(map.tokens),
                                           extent(map.heads), extent(map.batch)};
  const std::array<std::uint64_t, 3> strides{token_bytes, head_bytes,
                                             extent(map.batch_tokens) * token_bytes};
  const std::array<std::uint32_t, 4> box{panel_columns, static_cast<std::uint32_t>(map.rows),
                                         static_cast<std::uint32_t>(map.box_heads), 1};
  const std::array<std::uint32_t, 4> steps{1, 1, 1, 1};
  CUtensorMap encoded;
  const CUresult result =
      encode(&encoded, is_fp32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
             4, const_cast<void*>(map.base), sizes.data(), strides.data(), box.data(), steps.data(),
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw InvalidArgument(fmt::format(
        "the copy engine cannot address a {} tensor [{}, {}, {}, {}] at {} in boxes of {} "
        "tokens (CUDA error {}): it wants 16-byte aligned heads",
        name_of(map.dtype), map.batch, map.batch_tokens, map.heads, map.head_dim, map.base,
        map.rows, static_cast<int>(result)));
  }
  return encoded;
}

}  // namespace ringtrain
