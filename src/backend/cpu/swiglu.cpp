#include <algorithm>
#include <memory>

#include "exponential.h"
#include "gemm.h"
#include "ringtrain/ops/cpu/operations.h"
#include "scalar.h"

namespace ringtrain::cpu {
namespace {

template <typename A>
A sigmoid(A x) {
  return A{1} / (A{1} + exponential(-x));
}

/// A matrix of up to `rows` rows that lives as long as this.
template <typename T>
class Scratch {
 public:
  Scratch(std::int64_t rows, std::int64_t columns)
      : columns_(columns),
        data_(std::make_unique_for_overwrite<T[]>(static_cast<std::size_t>(rows * columns))) {}
  Tensor of(std::int64_t rows) const { return {data_.get(), dtype_of<T>, {rows, columns_}}; }

 private:
  std::int64_t columns_;
  std::unique_ptr<T[]> data_;
};

/// Calls body(begin, count) for rows whose products are then those of one matmul, to the bit.
template <typename Body>
void for_each_row_block(std::int64_t rows, const Body& body) {
  for (std::int64_t begin = 0; begin < rows; begin += kMatmulTileRows) {
    body(begin, std::min(kMatmulTileRows, rows - begin));
  }
}

template <typename T>
void swiglu(Tensor gate_up, Tensor out) {
  using A = Accumulator<T>;
  const std::int64_t rows = out.size(0), width = out.size(1);
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* gate = gate_up.data<T>() + row * 2 * width;
    const T* up = gate + width;
    T* to = out.data<T>() + row * width;
    for (std::int64_t i = 0; i < width; ++i) {
      const A g = static_cast<A>(gate[i]);
      to[i] = static_cast<T>(g * sigmoid(g) * static_cast<A>(up[i]));
    }
  }
}

/// silu'(g) = s (1 + g (1 - s)) with s = sigmoid(g).
template <typename T>
void swiglu_backward(Tensor gate_up, Tensor dout, Tensor dgate_up) {
  using A = Accumulator<T>;
  const std::int64_t rows = dout.size(0), width = dout.size(1);
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* gate = gate_up.data<T>() + row * 2 * width;
    const T* from = dout.data<T>() + row * width;
    T* dgate = dgate_up.data<T>() + row * 2 * width;
    for (std::int64_t i = 0; i < width; ++i) {
      const A g = static_cast<A>(gate[i]);
      const A up = static_cast<A>(gate[i + width]);
      const A d = static_cast<A>(from[i]);
      const A s = sigmoid(g);
      dgate[i] = static_cast<T>(d * up * s * (A{1} + g * (A{1} - s)));
      dgate[i + width] = static_cast<T>(d * g * s);
    }
  }
}

}  // namespace

template <typename T>
void swiglu_matmul(const SwigluMatmulArgs& args) {
  const std::int64_t rows = args.x.size(0);
  const Scratch<T> scratch(args.gate_up ? 0 : std::min(rows, kMatmulTileRows), args.weight.size(0));
  for_each_row_block(rows, [&](std::int64_t begin, std::int64_t count) {
    const Tensor gate_up = args.gate_up ? args.gate_up.slice(begin, count) : scratch.of(count);
    matmul<T>({args.x.slice(begin, count), args.weight, gate_up, false, true});
    if (args.out) swiglu<T>(gate_up, args.out.slice(begin, count));
  });
}

template <typename T>
void swiglu_matmul_backward(const SwigluMatmulBackwardArgs& args) {
  const std::int64_t rows = args.dout.size(0);
  const Scratch<T> scratch(std::min(rows, kMatmulTileRows), args.weight.size(1));
  for_each_row_block(rows, [&](std::int64_t begin, std::int64_t count) {
    const Tensor dactivation = scratch.of(count);
    const Tensor gate_up = args.gate_up.slice(begin, count);
    matmul<T>({args.dout.slice(begin, count), args.weight, dactivation});
    if (args.activation) swiglu<T>(gate_up, args.activation.slice(begin, count));
    swiglu_backward<T>(gate_up, dactivation, args.dgate_up.slice(begin, count));
  });
}

template void swiglu_matmul<float>(const SwigluMatmulArgs&);
template void swiglu_matmul<bfloat16>(const SwigluMatmulArgs&);
template void swiglu_matmul<double>(const SwigluMatmulArgs&);
template void swiglu_matmul_backward<float>(const SwigluMatmulBackwardArgs&);
template void swiglu_matmul_backward<bfloat16>(const SwigluMatmulBackwardArgs&);
template void swiglu_matmul_backward<double>(const SwigluMatmulBackwardArgs&);

}  // namespace ringtrain::cpu
