#pragma once

#include <initializer_list>
#include <string_view>

#include "ringtrain/core/tensor.h"

namespace ringtrain {

/// The checks of one operation's tensors; each throws InvalidArgument beginning with its name.
class Checker {
 public:
  explicit Checker(std::string_view operation) : operation_(operation) {}

  /// Present, of `rank` dimensions and one of the types.
  void tensor(std::string_view name, const Tensor& tensor, int rank,
              std::initializer_list<DType> types) const;
  /// Present, of this shape and one of the types.
  void tensor(std::string_view name, const Tensor& tensor, const Shape& shape,
              std::initializer_list<DType> types) const;
  /// Present, of `rank` dimensions and a compute type: fp32, bf16 or fp64.
  void compute(std::string_view name, const Tensor& tensor, int rank) const;
  /// `condition` or an error of the given text.
  void require(bool condition, std::string_view text) const;

 private:
  void type(std::string_view name, const Tensor& tensor, std::initializer_list<DType> types) const;
  [[noreturn]] void fail(std::string_view text) const;

  std::string_view operation_;
};

}  // namespace ringtrain
