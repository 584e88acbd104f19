#include <gtest/gtest.h>

#include "support/op_test.h"

namespace ringtrain {
namespace {

struct ElementwiseCase {
  std::string name;
  std::int64_t count;
};
class ElementwiseTest : public OpTest<ElementwiseCase> {
 protected:
  void SetUp() override {
    OpTest::SetUp();
    if (!IsSkipped()) values_ = random_normal({test_case().count}, 1, DType::kFloat32);
  }
  HostTensor values_;
};

TEST_P(ElementwiseTest, FillSetsEveryElement) {
  const Arena::Scope scope(device().arena());
  const Tensor out = device().poisoned(values_.shape, dtype());
  device().backend().fill(out, 0.1, device().stream());
  EXPECT_TRUE(
      all_close(device().download(out), rounded(HostTensor(values_.shape, 0.1), dtype()), {}));
}

TEST_P(ElementwiseTest, FillSetsIntegersAndDoubles) {
  const Arena::Scope scope(device().arena());
  const Tensor totals = device().poisoned(values_.shape, DType::kFloat64);
  device().backend().fill(totals, 0, device().stream());
  EXPECT_TRUE(all_close(device().download(totals), HostTensor(values_.shape), {}));
  for (const DType integer : {DType::kInt32, DType::kInt64}) {
    const Tensor out = device().poisoned(values_.shape, integer);
    device().backend().fill(out, 7, device().stream());
    std::vector<std::byte> bytes(out.bytes());
    device().device().copy_to_host(bytes.data(), out.raw(), bytes.size(), device().stream());
    device().stream().synchronise();
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      ASSERT_EQ(static_cast<int>(bytes[i]), i % size_of(integer) == 0 ? 7 : 0);
    }
  }
}

TEST_P(ElementwiseTest, CastRoundsToNearestEven) {
  const Arena::Scope scope(device().arena());
  for (const DType from : {DType::kFloat32, DType::kBFloat16}) {
    const Tensor in = device().upload(values_, from);
    const Tensor out = device().poisoned(values_.shape, dtype());
    device().backend().cast(in, out, device().stream());
    EXPECT_TRUE(all_close(device().download(out), rounded(rounded(values_, from), dtype()), {}));
  }
}

TEST_P(ElementwiseTest, AddSumsInFloatAndRoundsOnce) {
  const Arena::Scope scope(device().arena());
  const HostTensor base = random_normal(values_.shape, 2, dtype());
  for (const DType from : {DType::kFloat32, DType::kBFloat16}) {
    const Tensor in = device().upload(values_, from);
    const Tensor inout = device().upload(base, dtype());
    device().backend().add(in, inout, device().stream());
    HostTensor sum = rounded(values_, from);
    for (std::int64_t i = 0; i < sum.size(); ++i) sum[i] += base[i];
    EXPECT_TRUE(
        all_close(device().download(inout), rounded(rounded(sum, DType::kFloat32), dtype()), {}));
  }
}

RT_INSTANTIATE_OP_TEST(ElementwiseTest,
                       (std::vector<ElementwiseCase>{
                           {"empty", 0}, {"one", 1}, {"ragged", 1027}, {"many", 100001}}));

}  // namespace
}  // namespace ringtrain
