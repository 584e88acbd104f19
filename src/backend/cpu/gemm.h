#pragma once

#include <cstdint>

namespace ringtrain::cpu {

/// A row-major matrix, or its transpose, in memory with `stride` elements from row to row.
template <typename A>
struct Matrix {
  const A* data;
  std::int64_t stride;
  bool transposed = false;
};

/// out [m, n] = a [m, k] . b [k, n], added to out if `accumulate`, on the calling thread alone.
/// A = float or double. Through OpenBLAS where the build has it.
template <typename A>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<A> a, Matrix<A> b, A* out,
          std::int64_t out_stride, bool accumulate);

/// The same in plain C++: what `gemm` does without OpenBLAS.
template <typename A>
void blocked_gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<A> a, Matrix<A> b, A* out,
                  std::int64_t out_stride, bool accumulate);

/// Rows of the output that cpu::matmul computes at a time, counted from the first.
inline constexpr std::int64_t kMatmulTileRows = 128;

/// "OpenBLAS 0.3.21" or "blocked loops".
const char* gemm_description();

}  // namespace ringtrain::cpu
