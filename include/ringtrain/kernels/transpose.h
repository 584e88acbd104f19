#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

/// Launcher of the CUDA back end: raw device pointers, checked by the caller. It enqueues on
/// `stream` and returns without waiting; an empty problem launches nothing.
/// Errors: DeviceError if the launch is refused.
namespace ringtrain::kernels {

struct TransposeArgs {
  const void* in;  // [outer, inner] rows
  void* out;       // [inner, outer] rows
  std::int64_t outer;
  std::int64_t inner;
  std::int64_t row_bytes;  // even
};
/// out[b][a] = in[a][b].
void launch_transpose(const TransposeArgs& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
