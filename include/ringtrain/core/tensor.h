#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "ringtrain/core/dtype.h"

namespace ringtrain {

/// Sizes in elements, outermost first, at most six dimensions. Prints as [2, 4096, 32, 128].
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> sizes);

  int rank() const { return rank_; }
  /// Size of dimension `i`; negative counts from the innermost: -1 is the last.
  std::int64_t operator[](int i) const {
    return sizes_[static_cast<std::size_t>(i < 0 ? i + rank_ : i)];
  }
  /// Product of all sizes; 1 for rank 0.
  std::int64_t num_elements() const;
  /// This shape with the outermost size replaced.
  Shape with_outermost(std::int64_t size) const;
  /// Appends a dimension on the inside. Errors: InvalidArgument beyond kMaxRank.
  void append(std::int64_t size);

  bool operator==(const Shape& other) const = default;
  std::string to_string() const;

 private:
  std::array<std::int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

/// A view of contiguous row-major elements in one device's memory; the memory is owned elsewhere
/// (an Arena, a host buffer) and must outlive the view. Copying a Tensor copies the view.
class Tensor {
 public:
  Tensor() = default;
  Tensor(void* data, DType dtype, Shape shape) : data_(data), dtype_(dtype), shape_(shape) {}

  /// False for a default-constructed tensor: "this optional tensor is absent".
  explicit operator bool() const { return data_ != nullptr; }

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t size(int i) const { return shape_[i]; }
  std::int64_t num_elements() const { return shape_.num_elements(); }
  std::size_t bytes() const { return static_cast<std::size_t>(num_elements()) * size_of(dtype_); }

  void* raw() const { return data_; }
  /// Typed pointer. Errors: InvalidArgument if T is not the element type.
  template <typename T>
  T* data() const {
    check_dtype(dtype_of<T>);
    return static_cast<T*>(data_);
  }

  /// Rows [begin, begin + count) of the outermost dimension.
  Tensor slice(std::int64_t begin, std::int64_t count) const;
  /// Element `i` of the outermost dimension, with that dimension removed.
  Tensor operator[](std::int64_t i) const;
  /// The same elements under another shape. Errors: InvalidArgument if the counts differ.
  Tensor reshape(Shape shape) const;
  /// Elements [begin, begin + shape.num_elements()) of the flattened tensor, as `shape`.
  Tensor view(std::int64_t begin, Shape shape) const;

 private:
  void check_dtype(DType wanted) const;

  void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  Shape shape_;
};

}  // namespace ringtrain
