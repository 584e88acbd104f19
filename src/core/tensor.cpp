#include "ringtrain/core/tensor.h"

#include "ringtrain/core/error.h"

namespace ringtrain {

Shape::Shape(std::initializer_list<std::int64_t> sizes) {
  for (const std::int64_t size : sizes) append(size);
}

std::int64_t Shape::num_elements() const {
  std::int64_t product = 1;
  for (int i = 0; i < rank_; ++i) product *= (*this)[i];
  return product;
}

Shape Shape::with_outermost(std::int64_t size) const {
  Shape result = *this;
  result.sizes_[0] = size;
  return result;
}

void Shape::append(std::int64_t size) {
  if (rank_ == kMaxRank) throw InvalidArgument("a tensor has at most six dimensions");
  if (size < 0) throw InvalidArgument("negative tensor size " + std::to_string(size));
  sizes_[static_cast<std::size_t>(rank_++)] = size;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string((*this)[i]);
  }
  return text + "]";
}

Tensor Tensor::slice(std::int64_t begin, std::int64_t count) const {
  if (shape_.rank() == 0 || begin < 0 || count < 0 || begin + count > shape_[0]) {
    throw InvalidArgument("slice [" + std::to_string(begin) + ", " + std::to_string(begin + count) +
                          ") of tensor " + shape_.to_string());
  }
  const std::int64_t row = shape_[0] == 0 ? 0 : num_elements() / shape_[0];
  return view(begin * row, shape_.with_outermost(count));
}

Tensor Tensor::operator[](std::int64_t i) const {
  const Tensor row = slice(i, 1);
  Shape shape;
  for (int d = 1; d < shape_.rank(); ++d) shape.append(shape_[d]);
  return row.reshape(shape);
}

Tensor Tensor::reshape(Shape shape) const {
  if (shape.num_elements() != num_elements()) {
    throw InvalidArgument("cannot view tensor " + shape_.to_string() + " as " + shape.to_string());
  }
  return {data_, dtype_, shape};
}

Tensor Tensor::view(std::int64_t begin, Shape shape) const {
  if (begin < 0 || begin + shape.num_elements() > num_elements()) {
    throw InvalidArgument("view " + shape.to_string() + " at element " + std::to_string(begin) +
                          " leaves tensor " + shape_.to_string());
  }
  return {static_cast<std::byte*>(data_) + static_cast<std::size_t>(begin) * size_of(dtype_),
          dtype_, shape};
}

void Tensor::check_dtype(DType wanted) const {
  if (wanted != dtype_) {
    throw InvalidArgument("tensor " + shape_.to_string() + " holds " +
                          std::string(name_of(dtype_)) + ", not " + std::string(name_of(wanted)));
  }
}

}  // namespace ringtrain
