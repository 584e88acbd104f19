#include <algorithm>
#include <memory>

#include "gemm.h"
#include "ringtrain/ops/cpu/operations.h"
#include "scalar.h"

namespace ringtrain::cpu {
namespace {

// Each task is one tile of the output over the whole inner dimension, so the order of every sum
// is that of one single-threaded product. bf16 operands are widened kDepth columns at a time.
constexpr std::int64_t kTileColumns = 256;
constexpr std::int64_t kDepth = 1024;

/// Block [row, row + rows) x [column, column + columns) of op(matrix) in the accumulator type:
/// in place if it is stored so, else widened into `scratch`.
template <typename T>
Matrix<Accumulator<T>> block_of(const Tensor& tensor, bool transposed, std::int64_t row,
                                std::int64_t rows, std::int64_t column, std::int64_t columns,
                                Accumulator<T>* scratch) {
  if (transposed) {
    std::swap(row, column);
    std::swap(rows, columns);
  }
  const std::int64_t stride = tensor.size(1);
  const T* data = tensor.data<T>() + row * stride + column;
  if constexpr (std::is_same_v<T, Accumulator<T>>) {
    return {data, stride, transposed};
  } else {
    for (std::int64_t i = 0; i < rows; ++i)
      widen(data + i * stride, scratch + i * columns, columns);
    return {scratch, columns, transposed};
  }
}

template <typename T, typename Out>
void matmul_into(const MatmulArgs& args) {
  using A = Accumulator<T>;
  constexpr bool kWiden = !std::is_same_v<T, A>;
  constexpr bool kRound = !std::is_same_v<Out, A>;
  const std::int64_t m = args.out.size(0), n = args.out.size(1);
  const std::int64_t k = args.transpose_a ? args.a.size(0) : args.a.size(1);
  const std::int64_t depth = kWiden ? kDepth : std::max<std::int64_t>(k, 1);
  Out* out = args.out.data<Out>();
  const std::int64_t row_tiles = (m + kMatmulTileRows - 1) / kMatmulTileRows;
  const std::int64_t column_tiles = (n + kTileColumns - 1) / kTileColumns;
#pragma omp parallel if (worth_threads(m * n * k / 16))
  {
    std::unique_ptr<A[]> a_scratch, b_scratch, sums;
    if constexpr (kWiden) {
      a_scratch = std::make_unique_for_overwrite<A[]>(kMatmulTileRows * kDepth);
      b_scratch = std::make_unique_for_overwrite<A[]>(kDepth * kTileColumns);
    }
    if constexpr (kRound)
      sums = std::make_unique_for_overwrite<A[]>(kMatmulTileRows * kTileColumns);
#pragma omp for schedule(dynamic)
    for (std::int64_t tile = 0; tile < row_tiles * column_tiles; ++tile) {
      const std::int64_t row = tile / column_tiles * kMatmulTileRows;
      const std::int64_t column = tile % column_tiles * kTileColumns;
      const std::int64_t rows = std::min(kMatmulTileRows, m - row);
      const std::int64_t columns = std::min(kTileColumns, n - column);
      Out* corner = out + row * n + column;
      A* target = sums.get();
      std::int64_t stride = columns;
      if constexpr (kRound) {
        for (std::int64_t i = 0; i < rows && args.accumulate; ++i) {
          widen(corner + i * n, target + i * columns, columns);
        }
      } else {
        target = corner;
        stride = n;
      }
      std::int64_t k_begin = 0;
      do {  // once also for k = 0, which sets the tile to zero
        const std::int64_t steps = std::min(depth, k - k_begin);
        const auto a =
            block_of<T>(args.a, args.transpose_a, row, rows, k_begin, steps, a_scratch.get());
        const auto b =
            block_of<T>(args.b, args.transpose_b, k_begin, steps, column, columns, b_scratch.get());
        gemm<A>(rows, columns, steps, a, b, target, stride, args.accumulate || k_begin > 0);
        k_begin += steps;
      } while (k_begin < k);
      if constexpr (kRound) {
        for (std::int64_t i = 0; i < rows; ++i)
          narrow(target + i * columns, corner + i * n, columns);
      }
    }
  }
}

}  // namespace

template <typename T>
void matmul(const MatmulArgs& args) {
  if (args.out.dtype() == dtype_of<T>) {
    matmul_into<T, T>(args);
  } else {
    matmul_into<T, Accumulator<T>>(args);
  }
  if (args.addend) add(args.addend, args.out);
}

template void matmul<float>(const MatmulArgs&);
template void matmul<bfloat16>(const MatmulArgs&);
template void matmul<double>(const MatmulArgs&);

}  // namespace ringtrain::cpu
