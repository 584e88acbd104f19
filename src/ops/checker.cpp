#include "checker.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "ringtrain/core/error.h"

namespace ringtrain {

void Checker::tensor(std::string_view name, const Tensor& tensor, int rank,
                     std::initializer_list<DType> types) const {
  type(name, tensor, types);
  if (tensor.shape().rank() != rank) {
    fail(fmt::format("{} is {}, not of {} dimensions", name, tensor.shape().to_string(), rank));
  }
}

void Checker::tensor(std::string_view name, const Tensor& tensor, const Shape& shape,
                     std::initializer_list<DType> types) const {
  type(name, tensor, types);
  if (tensor.shape() != shape) {
    fail(fmt::format("{} is {}, where {} is needed", name, tensor.shape().to_string(),
                     shape.to_string()));
  }
}

void Checker::compute(std::string_view name, const Tensor& tensor, int rank) const {
  this->tensor(name, tensor, rank, {DType::kFloat32, DType::kBFloat16, DType::kFloat64});
}

void Checker::require(bool condition, std::string_view text) const {
  if (!condition) fail(text);
}

void Checker::type(std::string_view name, const Tensor& tensor,
                   std::initializer_list<DType> types) const {
  // An empty tensor may lie anywhere, also nowhere.
  if (!tensor && (tensor.shape().rank() == 0 || tensor.num_elements() > 0)) {
    fail(fmt::format("{} is absent", name));
  }
  if (std::find(types.begin(), types.end(), tensor.dtype()) != types.end()) return;
  std::string wanted;
  for (const DType dtype : types) {
    if (!wanted.empty()) wanted += " or ";
    wanted += name_of(dtype);
  }
  fail(fmt::format("{} {} holds {}, where {} is needed", name, tensor.shape().to_string(),
                   name_of(tensor.dtype()), wanted));
}

void Checker::fail(std::string_view text) const {
  throw InvalidArgument(fmt::format("{}: {}", operation_, text));
}

}  // namespace ringtrain
