#include <gtest/gtest.h>

#include "ringtrain/core/error.h"
#include "support/op_test.h"

namespace ringtrain {
namespace {

struct TransposeCase {
  std::string name;
  std::int64_t outer, inner, width;
};
class TransposeTest : public OpTest<TransposeCase> {};

TEST_P(TransposeTest, SwapsTheOuterDimensions) {
  const Arena::Scope scope(device().arena());
  const auto& [name, outer, inner, width] = test_case();
  const HostTensor in = random_normal({outer, inner, width}, 1, dtype());
  HostTensor expected(Shape{inner, outer, width});
  for (std::int64_t a = 0; a < outer; ++a) {
    for (std::int64_t b = 0; b < inner; ++b) {
      for (std::int64_t i = 0; i < width; ++i) {
        expected[(b * outer + a) * width + i] = in[(a * inner + b) * width + i];
      }
    }
  }
  const Tensor out = device().poisoned(expected.shape, dtype());
  device().backend().transpose(device().upload(in, dtype()), out, device().stream());
  EXPECT_TRUE(all_close(device().download(out), expected, {}));
}

// A slice begins anywhere: the widest words need not fit it.
TEST_P(TransposeTest, TakesUnalignedTensors) {
  const Arena::Scope scope(device().arena());
  const HostTensor in = random_normal({1 + 6 * 8}, 2, dtype());
  HostTensor expected(Shape{3, 2, 8});
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    const std::int64_t a = i / 8 % 2, b = i / 16;
    expected[i] = in[1 + (a * 3 + b) * 8 + i % 8];
  }
  const Tensor out = device().poisoned({3, 2, 8}, dtype());
  device().backend().transpose(device().upload(in, dtype()).view(1, {2, 3, 8}), out,
                               device().stream());
  EXPECT_TRUE(all_close(device().download(out), expected, {}));
}

RT_INSTANTIATE_OP_TEST(TransposeTest, (std::vector<TransposeCase>{{"empty", 0, 3, 8},
                                                                  {"one", 1, 1, 1},
                                                                  {"heads", 37, 4, 64},
                                                                  {"odd_rows", 5, 3, 33},
                                                                  {"narrow", 1001, 2, 1},
                                                                  {"many", 600, 8, 32}}));

TEST(Transpose, RefusesOtherShapesAndInPlace) {
  TestDevice& device = TestDevice::shared(DeviceType::kCpu);
  const Arena::Scope scope(device.arena());
  const Tensor in = device.poisoned({2, 3, 4}, DType::kFloat32);
  const Tensor out = device.poisoned({2, 3, 4}, DType::kFloat32);
  EXPECT_THROW(device.backend().transpose(in, out, device.stream()), InvalidArgument);
  EXPECT_THROW(device.backend().transpose(in, in.reshape({3, 2, 4}), device.stream()),
               InvalidArgument);
}

}  // namespace
}  // namespace ringtrain
