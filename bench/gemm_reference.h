#pragma once

#include <cuda_bf16.h>

#include <cstdint>

/// A matrix product in double: what the fast kernels are compared with.
namespace ringtrain::bench {

struct ProductArgs {
  const __nv_bfloat16* a;  // [m, k] or, transposed, [k, m]
  const __nv_bfloat16* b;  // [k, n] or, transposed, [n, k]
  double* out;             // [m, n], written
  std::int64_t m, n, k;
  bool transpose_a, transpose_b;
};
/// Enqueues on the default stream.
void run_reference_product(const ProductArgs& args);

}  // namespace ringtrain::bench
