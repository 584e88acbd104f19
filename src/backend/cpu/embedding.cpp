#include <algorithm>

#include "ringtrain/ops/cpu/operations.h"
#include "scalar.h"

namespace ringtrain::cpu {

template <typename T>
void embedding(const EmbeddingArgs& args) {
  const std::int64_t rows = args.tokens.size(0);
  const std::int64_t entries = args.table.size(0), width = args.table.size(1);
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t entry = args.tokens.data<std::int32_t>()[row] - args.first_index;
    T* out = args.out.data<T>() + row * width;
    if (entry < 0 || entry >= entries) {
      std::fill_n(out, width, T{});
    } else {
      std::copy_n(args.table.data<T>() + entry * width, width, out);
    }
  }
}

/// Columns are divided among threads; the rows of a token are added in order.
template <typename T>
void embedding_backward(const EmbeddingBackwardArgs& args) {
  using A = Accumulator<T>;
  constexpr std::int64_t kColumns = 64;
  const std::int64_t rows = args.tokens.size(0);
  const std::int64_t entries = args.dtable.size(0), width = args.dtable.size(1);
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t begin = 0; begin < width; begin += kColumns) {
    const std::int64_t count = std::min(kColumns, width - begin);
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t entry = args.tokens.data<std::int32_t>()[row] - args.first_index;
      if (entry < 0 || entry >= entries) continue;
      const T* dout = args.dout.data<T>() + row * width + begin;
      A* dtable = args.dtable.data<A>() + entry * width + begin;
      for (std::int64_t i = 0; i < count; ++i) dtable[i] += static_cast<A>(dout[i]);
    }
  }
}

template void embedding<float>(const EmbeddingArgs&);
template void embedding<bfloat16>(const EmbeddingArgs&);
template void embedding<double>(const EmbeddingArgs&);
template void embedding_backward<float>(const EmbeddingBackwardArgs&);
template void embedding_backward<bfloat16>(const EmbeddingBackwardArgs&);
template void embedding_backward<double>(const EmbeddingBackwardArgs&);

}  // namespace ringtrain::cpu
