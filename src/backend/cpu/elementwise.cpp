#include <algorithm>
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

}  // namespace ringtrain::cpu
