#include "ringtrain/backend/tensor_map.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// Through the runtime, so that the program starts on machines without a driver.
Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  RT_CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                 cudaEnableDefault, &found));
#else
  RT_CUDA_CHECK(
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found));
#endif
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw DeviceError("the CUDA driver has no cuTensorMapEncodeTiled; it must be 12.0 or later");
  }
  return reinterpret_cast<Encode>(function);
}

}  // namespace

CUtensorMap encode_panel_map(const PanelMap& map) {
  static const Encode encode = find_encode();
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
