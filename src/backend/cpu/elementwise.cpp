#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "ringtrain/core/error.h"
#include "ringtrain/ops/cpu/operations.h"
#include "scalar.h"

namespace ringtrain::cpu {
namespace {

template <typename T>
void fill_with(Tensor out, T value) {
  T* data = out.data<T>();
  const std::int64_t count = out.num_elements();
#pragma omp parallel for if (worth_threads(count))
  for (std::int64_t i = 0; i < count; ++i) data[i] = value;
}

template <typename In, typename Out>
void cast_to(Tensor in, Tensor out) {
  const In* from = in.data<In>();
  Out* to = out.data<Out>();
  const std::int64_t count = in.num_elements();
#pragma omp parallel for if (worth_threads(count))
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<Out>(static_cast<float>(from[i]));
}

template <typename In, typename Out>
void add_to(Tensor in, Tensor inout) {
  using A = Accumulator<Out>;
  const In* from = in.data<In>();
  Out* to = inout.data<Out>();
  const std::int64_t count = in.num_elements();
#pragma omp parallel for if (worth_threads(count))
  for (std::int64_t i = 0; i < count; ++i) {
    to[i] = static_cast<Out>(static_cast<A>(to[i]) + static_cast<A>(from[i]));
  }
}

}  // namespace

void fill(Tensor out, double value) {
  switch (out.dtype()) {
    case DType::kFloat32:
      return fill_with(out, static_cast<float>(value));
    case DType::kFloat64:
      return fill_with(out, value);
    case DType::kBFloat16:
      return fill_with(out, bfloat16(static_cast<float>(value)));
    case DType::kInt32:
      return fill_with(out, static_cast<std::int32_t>(value));
    case DType::kInt64:
      return fill_with(out, static_cast<std::int64_t>(value));
    case DType::kFloat16:
      break;
  }
  throw InvalidArgument("fill: fp16 tensors are not computed with");
}

void cast(Tensor in, Tensor out) {
  if (in.dtype() == out.dtype()) {
    if (in.bytes() > 0) std::memmove(out.raw(), in.raw(), in.bytes());
  } else if (in.dtype() == DType::kFloat32) {
    cast_to<float, bfloat16>(in, out);
  } else {
    cast_to<bfloat16, float>(in, out);
  }
}

void add(Tensor in, Tensor inout) {
  const bool in_bf16 = in.dtype() == DType::kBFloat16;
  if (in.dtype() == DType::kFloat64) {
    add_to<double, double>(in, inout);
  } else if (inout.dtype() == DType::kBFloat16) {
    in_bf16 ? add_to<bfloat16, bfloat16>(in, inout) : add_to<float, bfloat16>(in, inout);
  } else {
    in_bf16 ? add_to<bfloat16, float>(in, inout) : add_to<float, float>(in, inout);
  }
}

void transpose(Tensor in, Tensor out) {
  const std::int64_t outer = in.size(0), inner = in.size(1);
  const std::size_t row = static_cast<std::size_t>(in.size(2)) * size_of(in.dtype());
  const auto* from = static_cast<const std::byte*>(in.raw());
  auto* to = static_cast<std::byte*>(out.raw());
#pragma omp parallel for collapse(2) if (worth_threads(in.num_elements()))
  for (std::int64_t b = 0; b < inner; ++b) {
    for (std::int64_t a = 0; a < outer; ++a) {
      std::memcpy(to + static_cast<std::size_t>(b * outer + a) * row,
                  from + static_cast<std::size_t>(a * inner + b) * row, row);
    }
  }
}

}  // namespace ringtrain::cpu
