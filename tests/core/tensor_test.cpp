#include "ringtrain/core/tensor.h"

#include <gtest/gtest.h>

#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

TEST(ShapeTest, PrintsAndCounts) {
  EXPECT_EQ(Shape({2, 4096, 32}).to_string(), "[2, 4096, 32]");
  EXPECT_EQ(Shape({2, 3, 4}).num_elements(), 24);
  EXPECT_EQ(Shape{}.num_elements(), 1);
  EXPECT_EQ(Shape({2, 3, 4})[-1], 4);
}

TEST(TensorTest, SlicesShareMemory) {
  std::vector<float> data{0, 1, 2, 3, 4, 5};
  const Tensor tensor(data.data(), DType::kFloat32, {3, 2});
  EXPECT_EQ(tensor.slice(1, 2).data<float>()[0], 2);
  EXPECT_EQ(tensor[2].shape(), Shape({2}));
  EXPECT_EQ(tensor[2].data<float>()[1], 5);
  EXPECT_THROW(tensor.slice(2, 2), InvalidArgument);
  EXPECT_THROW(tensor.data<double>(), InvalidArgument);
  EXPECT_THROW(tensor.reshape({4}), InvalidArgument);
}

TEST(DTypeTest, Bfloat16RoundsToNearestEven) {
  EXPECT_EQ(static_cast<float>(bfloat16(1.0f + 1.0f / 256)), 1.0f);               // tie to even
  EXPECT_EQ(static_cast<float>(bfloat16(1.0f + 3.0f / 256)), 1.0f + 4.0f / 256);  // tie to even
  EXPECT_NE(static_cast<float>(bfloat16(std::bit_cast<float>(0x7f800001u))),
            static_cast<float>(bfloat16(std::bit_cast<float>(0x7f800001u))));
}

TEST(DTypeTest, HalfRoundTripsEveryFiniteValue) {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    if ((half & 0x7c00u) == 0x7c00u && (half & 0x3ffu) != 0) continue;  // NaN
    EXPECT_EQ(half_from_float(float_from_half(half)), half);
  }
}

}  // namespace
}  // namespace ringtrain
