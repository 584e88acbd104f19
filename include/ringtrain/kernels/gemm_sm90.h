#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ringtrain/core/dtype.h"

/// Matrix products on Hopper's tensor cores: bf16 in, fp32 sums, all matrices row-major. A sum does
/// not depend on the other rows and columns: equal inputs give equal bits whatever M and N are.
/// Launchers enqueue on `stream` and return without waiting. Launches on one device must not
/// overlap: they share a counter of tiles. Errors: InvalidArgument where *_sm90_supports says no;
/// DeviceError if the launch is refused.
namespace ringtrain::kernels {

/// out = op(a) op(b), with op the transpose where asked, and what is added to it.
struct GemmSm90Args {
  const void* a;       // [M, K] or, transposed, [K, M] bf16
  const void* b;       // [K, N] or, transposed, [N, K] bf16
  const void* addend;  // [M, N] bf16, added to the rounded product; or null
  void* out;           // [M, N] bf16, or fp32
  std::int64_t m, n, k;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;  // added to out, before any rounding
  DType out_type = DType::kBFloat16;
  int max_blocks = 0;  // SMs to use; 0 for all
};
/// True for what there is a kernel for and the copy engine can address: sizes that are contiguous
/// in memory multiples of 8, tensors aligned to 16 bytes, nothing empty; of operands and results
///   a b^T, bf16, with and without an addend;  a b, bf16;  a^T b, fp32, also accumulated.
bool gemm_sm90_supports(const GemmSm90Args& args);
void launch_gemm_sm90(const GemmSm90Args& args, cudaStream_t stream);

/// The two projections of SwiGLU and what they are for: gate|up = x weight^T, rounded to bf16, and
/// out = silu(gate) up. At least one of the results is wanted.
struct SwigluGemmSm90Args {
  const void* x;       // [rows, depth] bf16
  const void* weight;  // [2 width, depth] bf16: gate rows, then up rows
  void* gate_up;       // [rows, 2 width] bf16, or null
  void* out;           // [rows, width] bf16, or null
  std::int64_t rows, width, depth;
  int max_blocks = 0;
};
/// Width and depth multiples of 8, tensors aligned to 16 bytes, nothing empty.
bool swiglu_gemm_sm90_supports(const SwigluGemmSm90Args& args);
void launch_swiglu_gemm_sm90(const SwigluGemmSm90Args& args, cudaStream_t stream);

/// The gradients of gate and up where out = silu(gate) up goes on through `weight`: the gradient of
/// out is dout weight, rounded to bf16.
struct SwigluGemmBackwardSm90Args {
  const void* dout;     // [rows, depth] bf16
  const void* weight;   // [depth, width] bf16
  const void* gate_up;  // [rows, 2 width] bf16
  void* dgate_up;       // [rows, 2 width] bf16, written; may be gate_up
  void* activation;     // [rows, width] bf16, written: silu(gate) up; or null
  std::int64_t rows, width, depth;
  int max_blocks = 0;
};
/// As swiglu_gemm_sm90_supports.
bool swiglu_gemm_backward_sm90_supports(const SwigluGemmBackwardSm90Args& args);
void launch_swiglu_gemm_backward_sm90(const SwigluGemmBackwardSm90Args& args, cudaStream_t stream);

}  // namespace ringtrain::kernels
