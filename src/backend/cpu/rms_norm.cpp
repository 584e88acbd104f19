#include <algorithm>
#include <cmath>

#include "ringtrain/ops/cpu/operations.h"
#include "scalar.h"

namespace ringtrain::cpu {

template <typename T>
void rms_norm(const RmsNormArgs& args) {
  using A = Accumulator<T>;
  const std::int64_t rows = args.x.size(0), width = args.x.size(1);
  const T* weight = args.weight.data<T>();
  A* rstd = args.rstd.data<A>();
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* x = args.x.data<T>() + row * width;
    T* out = args.out.data<T>() + row * width;
    // In double: of wide rows, squares summed in fp32 leave an error that shows in rstd.
    const double squares = sum_over<double>(width, [x](std::int64_t i) {
      const auto value = static_cast<double>(static_cast<A>(x[i]));
      return value * value;
    });
    const double mean = squares / static_cast<double>(width);
    const A scale = static_cast<A>(1 / std::sqrt(mean + static_cast<double>(args.eps)));
    rstd[row] = scale;
    for (std::int64_t i = 0; i < width; ++i) {
      const T normalised = static_cast<T>(static_cast<A>(x[i]) * scale);
      out[i] = static_cast<T>(static_cast<A>(weight[i]) * static_cast<A>(normalised));
    }
  }
}

namespace {

/// With n = x rstd and g = dout weight: dx = rstd (g - n mean(g n)).
template <typename T>
void add_input_gradient(const RmsNormBackwardArgs& args) {
  using A = Accumulator<T>;
  const std::int64_t rows = args.x.size(0), width = args.x.size(1);
  const T* weight = args.weight.data<T>();
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* x = args.x.data<T>() + row * width;
    const T* dout = args.dout.data<T>() + row * width;
    T* dx = args.dx.data<T>() + row * width;
    const A scale = args.rstd.data<A>()[row];
    const A sum = sum_over<A>(width, [=](std::int64_t i) {
      return static_cast<A>(dout[i]) * static_cast<A>(weight[i]) * static_cast<A>(x[i]);
    });
    const A mean = sum * scale / static_cast<A>(width);
    for (std::int64_t i = 0; i < width; ++i) {
      const A normalised = static_cast<A>(x[i]) * scale;
      const A gradient = static_cast<A>(dout[i]) * static_cast<A>(weight[i]) - normalised * mean;
      dx[i] = static_cast<T>(static_cast<A>(dx[i]) + scale * gradient);
    }
  }
}

/// Columns are divided among threads and rows summed in order, in double: a long sum of rounded
/// numbers that must come out the same for any number of threads.
template <typename T>
void add_weight_gradient(const RmsNormBackwardArgs& args) {
  using A = Accumulator<T>;
  constexpr std::int64_t kColumns = 64;
  const std::int64_t rows = args.x.size(0), width = args.x.size(1);
  const A* rstd = args.rstd.data<A>();
  A* dweight = args.dweight.data<A>();
#pragma omp parallel for if (worth_threads(rows * width))
  for (std::int64_t begin = 0; begin < width; begin += kColumns) {
    const std::int64_t count = std::min(kColumns, width - begin);
    double sums[kColumns] = {};
    for (std::int64_t row = 0; row < rows; ++row) {
      const T* x = args.x.data<T>() + row * width + begin;
      const T* dout = args.dout.data<T>() + row * width + begin;
      for (std::int64_t i = 0; i < count; ++i) {
        // The factor of the forward pass: normalised and cast.
        const T normalised = static_cast<T>(static_cast<A>(x[i]) * rstd[row]);
        sums[i] += static_cast<double>(static_cast<A>(dout[i]) * static_cast<A>(normalised));
      }
    }
    for (std::int64_t i = 0; i < count; ++i) dweight[begin + i] += static_cast<A>(sums[i]);
  }
}

}  // namespace

template <typename T>
void rms_norm_backward(const RmsNormBackwardArgs& args) {
  add_weight_gradient<T>(args);  // first: dx may be dout's memory
  add_input_gradient<T>(args);
}

template void rms_norm<float>(const RmsNormArgs&);
template void rms_norm<bfloat16>(const RmsNormArgs&);
template void rms_norm<double>(const RmsNormArgs&);
template void rms_norm_backward<float>(const RmsNormBackwardArgs&);
template void rms_norm_backward<bfloat16>(const RmsNormBackwardArgs&);
template void rms_norm_backward<double>(const RmsNormBackwardArgs&);

}  // namespace ringtrain::cpu
