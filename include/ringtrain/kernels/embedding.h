#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "ringtrain/core/dtype.h"

namespace ringtrain::kernels {

struct EmbeddingArgs {
  const std::int32_t* tokens;  // [rows]
  const void* table;           // [entries, width] compute
  void* out;                   // [rows, width] compute; zeros for tokens of other ranks
  std::int64_t rows;
  std::int64_t entries;
  std::int64_t width;
  std::int64_t first_index;  // token of table row 0
  DType compute;
};
void launch_embedding(const EmbeddingArgs& args, cudaStream_t stream);

struct EmbeddingBackwardArgs {
  const std::int32_t* tokens;  // [rows]
  const void* dout;            // [rows, width] compute
  float* dtable;               // [entries, width], added to in ascending order of rows
  void* scratch;               // aligned to 4 bytes
  std::size_t scratch_bytes;   // at least 4 (rows + entries)
  std::int64_t rows;
  std::int64_t entries;
  std::int64_t width;
  std::int64_t first_index;
  DType compute;
};
void launch_embedding_backward(const EmbeddingBackwardArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
