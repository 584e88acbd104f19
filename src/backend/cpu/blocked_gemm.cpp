#include <algorithm>

#include "gemm.h"

namespace ringtrain::cpu {
namespace {

// The micro-kernel keeps 4 x 8 sums in the 16 vector registers every x86-64 has; panels of
// [kDepth] x those widths stay in the first-level cache.
constexpr std::int64_t kRows = 4;
constexpr std::int64_t kColumns = 8;
constexpr std::int64_t kDepth = 256;
constexpr std::int64_t kRowsPerPanel = 64;

template <typename A>
A element(const Matrix<A>& matrix, std::int64_t row, std::int64_t column) {
  return matrix.transposed ? matrix.data[column * matrix.stride + row]
                           : matrix.data[row * matrix.stride + column];
}

/// Packs rows [row, row + kRows) of `a`, step by step along k; rows from m on are zero.
template <typename A>
void pack_rows(const Matrix<A>& a, std::int64_t row, std::int64_t m, std::int64_t k_begin,
               std::int64_t depth, A* packed) {
  for (std::int64_t p = 0; p < depth; ++p) {
    for (std::int64_t i = 0; i < kRows; ++i) {
      packed[p * kRows + i] = row + i < m ? element(a, row + i, k_begin + p) : A{0};
    }
  }
}

template <typename A>
void pack_columns(const Matrix<A>& b, std::int64_t column, std::int64_t n, std::int64_t k_begin,
                  std::int64_t depth, A* packed) {
  for (std::int64_t p = 0; p < depth; ++p) {
    for (std::int64_t j = 0; j < kColumns; ++j) {
      packed[p * kColumns + j] = column + j < n ? element(b, k_begin + p, column + j) : A{0};
    }
  }
}

template <typename A>
void multiply_panel(const A* rows, const A* columns, std::int64_t depth,
                    A (&sums)[kRows][kColumns]) {
  A local[kRows][kColumns] = {};
  for (std::int64_t p = 0; p < depth; ++p) {
    for (std::int64_t i = 0; i < kRows; ++i) {
      for (std::int64_t j = 0; j < kColumns; ++j) {
        local[i][j] += rows[p * kRows + i] * columns[p * kColumns + j];
      }
    }
  }
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t j = 0; j < kColumns; ++j) sums[i][j] = local[i][j];
  }
}

}  // namespace

template <typename A>
void blocked_gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<A> a, Matrix<A> b, A* out,
                  std::int64_t out_stride, bool accumulate) {
  if (!accumulate) {
    for (std::int64_t i = 0; i < m; ++i) std::fill_n(out + i * out_stride, n, A{0});
  }
  alignas(64) A rows[kRowsPerPanel * kDepth];
  alignas(64) A columns[kColumns * kDepth];
  for (std::int64_t k_begin = 0; k_begin < k; k_begin += kDepth) {
    const std::int64_t depth = std::min(kDepth, k - k_begin);
    for (std::int64_t panel = 0; panel < m; panel += kRowsPerPanel) {
      const std::int64_t panel_end = std::min(m, panel + kRowsPerPanel);
      for (std::int64_t i = panel; i < panel_end; i += kRows) {
        pack_rows(a, i, m, k_begin, depth, rows + (i - panel) * kDepth);
      }
      for (std::int64_t j = 0; j < n; j += kColumns) {
        pack_columns(b, j, n, k_begin, depth, columns);
        for (std::int64_t i = panel; i < panel_end; i += kRows) {
          A sums[kRows][kColumns];
          multiply_panel(rows + (i - panel) * kDepth, columns, depth, sums);
          for (std::int64_t row = i; row < std::min(m, i + kRows); ++row) {
            for (std::int64_t column = j; column < std::min(n, j + kColumns); ++column) {
              out[row * out_stride + column] += sums[row - i][column - j];
            }
          }
        }
      }
    }
  }
}

template void blocked_gemm(std::int64_t, std::int64_t, std::int64_t, Matrix<float>, Matrix<float>,
                           float*, std::int64_t, bool);
template void blocked_gemm(std::int64_t, std::int64_t, std::int64_t, Matrix<double>, Matrix<double>,
                           double*, std::int64_t, bool);

}  // namespace ringtrain::cpu
