#include "exponential.h"
#include "ringtrain/ops/cpu/operations.h"
#include "scalar.h"

namespace ringtrain::cpu {
namespace {

template <typename A>
A sigmoid(A x) {
  return A{1} / (A{1} + exponential(-x));
}

}  // namespace

template <typename T>
void swiglu(const SwigluArgs& args) {
  using A = Accumulator<T>;
  const std::int64_t rows = args.out.size(0), width = args.out.size(1);
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* gate = args.gate_up.data<T>() + row * 2 * width;
    const T* up = gate + width;
    T* out = args.out.data<T>() + row * width;
    for (std::int64_t i = 0; i < width; ++i) {
      const A g = static_cast<A>(gate[i]);
      out[i] = static_cast<T>(g * sigmoid(g) * static_cast<A>(up[i]));
    }
  }
}

/// silu'(g) = s (1 + g (1 - s)) with s = sigmoid(g).
template <typename T>
void swiglu_backward(const SwigluBackwardArgs& args) {
  using A = Accumulator<T>;
  const std::int64_t rows = args.dout.size(0), width = args.dout.size(1);
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* gate = args.gate_up.data<T>() + row * 2 * width;
    const T* dout = args.dout.data<T>() + row * width;
    T* dgate = args.dgate_up.data<T>() + row * 2 * width;
    for (std::int64_t i = 0; i < width; ++i) {
      const A g = static_cast<A>(gate[i]);
      const A up = static_cast<A>(gate[i + width]);
      const A d = static_cast<A>(dout[i]);
      const A s = sigmoid(g);
      dgate[i] = static_cast<T>(d * up * s * (A{1} + g * (A{1} - s)));
      dgate[i + width] = static_cast<T>(d * g * s);
    }
  }
}

template void swiglu<float>(const SwigluArgs&);
template void swiglu<bfloat16>(const SwigluArgs&);
template void swiglu<double>(const SwigluArgs&);
template void swiglu_backward<float>(const SwigluBackwardArgs&);
template void swiglu_backward<bfloat16>(const SwigluBackwardArgs&);
template void swiglu_backward<double>(const SwigluBackwardArgs&);

}  // namespace ringtrain::cpu
