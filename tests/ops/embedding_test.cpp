#include <gtest/gtest.h>

#include "ringtrain/ops/check.h"
#include "support/op_test.h"

namespace ringtrain {
namespace {

struct EmbeddingCase {
  std::string name;
  std::int64_t rows, entries, width;
  std::int32_t first_index = 0;  ///< tokens are drawn from twice the entries around them
};
class EmbeddingTest : public OpTest<EmbeddingCase> {
 protected:
  void SetUp() override {
    OpTest::SetUp();
    const EmbeddingCase& c = test_case();
    const auto entries = static_cast<std::int32_t>(c.entries);
    tokens_ = random_integers(c.rows, 0, c.first_index == 0 ? entries : 2 * entries, 7);
  }
  /// The entry of a row's token, or -1 if another rank has it.
  std::int64_t entry_of(std::int64_t row) const {
    const std::int64_t entry = tokens_[static_cast<std::size_t>(row)] - test_case().first_index;
    return entry >= 0 && entry < test_case().entries ? entry : -1;
  }

  std::vector<std::int32_t> tokens_;
};

TEST_P(EmbeddingTest, CopiesRowsOfThisRank) {
  const EmbeddingCase& c = test_case();
  const Arena::Scope scope(device().arena());
  const HostTensor table = random_normal({c.entries, c.width}, 1, dtype());
  const Tensor out = device().poisoned({c.rows, c.width}, dtype());
  device().backend().embedding({.tokens = device().upload(tokens_),
                                .table = device().upload(table, dtype()),
                                .out = out,
                                .first_index = c.first_index},
                               device().stream());
  HostTensor expected({c.rows, c.width});
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    const std::int64_t entry = entry_of(i / c.width);
    if (entry >= 0) expected[i] = table[entry * c.width + i % c.width];
  }
  EXPECT_TRUE(all_close(device().download(out), expected, {}));
}

TEST_P(EmbeddingTest, BackwardAddsEveryUseOfAToken) {
  const EmbeddingCase& c = test_case();
  const HostTensor dout = random_normal({c.rows, c.width}, 2, dtype());
  const HostTensor before = random_normal({c.entries, c.width}, 3, DType::kFloat32);
  const auto run = [&](TestDevice& device, DType dtype) {
    const Arena::Scope scope(device.arena());
    const Tensor dtable = device.upload(before, accumulator_of(dtype));
    device.backend().embedding_backward({.tokens = device.upload(tokens_),
                                         .dout = device.upload(dout, dtype),
                                         .dtable = dtable,
                                         .first_index = c.first_index},
                                        device.stream());
    return device.download(dtable);
  };
  HostTensor expected = before;
  for (std::int64_t i = 0; i < dout.size(); ++i) {
    const std::int64_t entry = entry_of(i / c.width);
    if (entry >= 0) expected[entry * c.width + i % c.width] += dout[i];
  }
  EXPECT_TRUE(all_close(run(oracle(), DType::kFloat64), expected, {.absolute = 1e-12}));
  const HostTensor actual = run(device(), dtype());
  EXPECT_TRUE(close_l2(actual, expected, {.relative = 1e-6}));
  EXPECT_TRUE(all_close(run(device(), dtype()), actual, {}));  // deterministic
}

RT_INSTANTIATE_OP_TEST(EmbeddingTest, (std::vector<EmbeddingCase>{{"no_rows", 0, 10, 8},
                                                                  {"one", 1, 1, 1},
                                                                  {"ragged", 37, 11, 100},
                                                                  {"frequent_tokens", 1000, 3, 64},
                                                                  {"lists_about_a_warp", 160, 5, 8},
                                                                  {"other_ranks", 200, 16, 70, 16},
                                                                  {"wide", 20, 50, 1030, 50}}));

}  // namespace
}  // namespace ringtrain
