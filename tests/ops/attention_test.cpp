#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "support/attention_problem.h"
#include "support/op_test.h"

namespace ringtrain {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Positions begin at 0 unless `query_positions` or `key_positions` are given.
struct AttentionCase {
  std::string name;
  std::int64_t batch, queries, keys, heads, kv_heads, head_dim;
  std::int64_t query_chunk_size = 0, key_chunk_size = 0;
  bool causal = true;
  std::vector<std::int32_t> query_positions = {}, key_positions = {};
  bool documents = false;
  int num_steps = 1, first_part = 0;
  std::int32_t growth = 7;  // of a document over the one before, in tokens
};

AttentionProblem problem_of(const AttentionCase& c, DType dtype) {
  AttentionProblem problem = random_attention({c.batch, c.queries, c.heads, c.head_dim}, c.keys,
                                              c.kv_heads, /*seed=*/17, dtype);
  problem.query_chunk_size = c.query_chunk_size;
  problem.key_chunk_size = c.key_chunk_size;
  problem.causal = c.causal;
  if (!c.query_positions.empty()) problem.query_positions = c.query_positions;
  if (!c.key_positions.empty()) problem.key_positions = c.key_positions;
  if (c.documents) {  // of 1, 1 + growth, ... tokens in the first sequence, shifted in the others
    for (std::int32_t b = 0; b < c.batch; ++b) {
      std::int32_t start = 0, next = 1 + b, length = 1 + b;
      for (const std::int32_t position : problem.query_positions) {
        for (; position >= next; next += length) {
          start = next;
          length += c.growth;
        }
        problem.lowest_visible.push_back(start);
      }
    }
  }
  return problem;
}

void expect_oracle(const AttentionCase& c, TestDevice& device, DType dtype) {
  const AttentionProblem problem = problem_of(c, dtype);
  const AttentionResult actual = attend(device, dtype, problem, c.num_steps, c.first_part);
  const AttentionResult expected =
      attend(TestDevice::shared(DeviceType::kCpu), DType::kFloat64, problem);
  if (dtype == DType::kFloat32) {
    // Sums of up to a few hundred fp32 products; the exponential adds 2 ulp of each weight.
    EXPECT_LE(relative_l2(actual.out, expected.out), 1e-6);
    EXPECT_TRUE(all_close(actual.lse, expected.lse, {.relative = 1e-6, .absolute = 2e-6}));
    // dp - delta cancels, to nothing for a row of one key: hence the absolute part.
    constexpr Tolerance kGradient{.relative = 3e-6, .absolute = 5e-7};
    EXPECT_TRUE(close_l2(actual.dquery, expected.dquery, kGradient));
    EXPECT_TRUE(close_l2(actual.dkey, expected.dkey, kGradient));
    EXPECT_TRUE(close_l2(actual.dvalue, expected.dvalue, kGradient));
    return;
  }
  constexpr Tolerance kGradient{.relative = 1.5e-2, .absolute = 5e-7};  // as above
  const AttentionResult rival = attend_plainly(problem, dtype);
  EXPECT_TRUE(rivals(actual.out, rival.out, expected.out, 2));
  EXPECT_LE(relative_l2(actual.out, expected.out), 5e-3);
  EXPECT_TRUE(all_close(actual.lse, expected.lse, {.relative = 1e-6, .absolute = 2e-4}));
  EXPECT_TRUE(rivals(actual.dquery, rival.dquery, expected.dquery, 3));
  EXPECT_TRUE(rivals(actual.dkey, rival.dkey, expected.dkey, 3));
  EXPECT_TRUE(rivals(actual.dvalue, rival.dvalue, expected.dvalue, 3));
  EXPECT_TRUE(close_l2(actual.dquery, expected.dquery, kGradient));
  EXPECT_TRUE(close_l2(actual.dkey, expected.dkey, kGradient));
  EXPECT_TRUE(close_l2(actual.dvalue, expected.dvalue, kGradient));
}

class AttentionTest : public OpTest<AttentionCase> {};

TEST_P(AttentionTest, MatchesOracle) {
  expect_oracle(test_case(), device(), dtype());
}

TEST_P(AttentionTest, IsDeterministic) {
  const AttentionCase& c = test_case();
  const AttentionProblem problem = problem_of(c, dtype());
  const AttentionResult once = attend(device(), dtype(), problem, c.num_steps, c.first_part);
  const AttentionResult again = attend(device(), dtype(), problem, c.num_steps, c.first_part);
  EXPECT_TRUE(all_close(again.out, once.out, {}));
  EXPECT_TRUE(all_close(again.lse, once.lse, {}));
  EXPECT_TRUE(all_close(again.dquery, once.dquery, {}));
  EXPECT_TRUE(all_close(again.dkey, once.dkey, {}));
  EXPECT_TRUE(all_close(again.dvalue, once.dvalue, {}));
}

TEST_P(AttentionTest, OneProcessorGivesTheSameBits) {
  const AttentionCase& c = test_case();
  AttentionProblem problem = problem_of(c, dtype());
  const AttentionResult all = attend(device(), dtype(), problem, c.num_steps, c.first_part);
  problem.free_processors = 1 << 20;  // one is left: everything is done by one after the other
  const AttentionResult one = attend(device(), dtype(), problem, c.num_steps, c.first_part);
  EXPECT_TRUE(all_close(one.out, all.out, {}));
  EXPECT_TRUE(all_close(one.lse, all.lse, {}));
}

TEST_P(AttentionTest, RoundsKeyAndValueGradientsOnce) {
  const AttentionCase& c = test_case();
  AttentionProblem problem = problem_of(c, dtype());
  const AttentionResult whole = attend(device(), dtype(), problem, c.num_steps, c.first_part);
  problem.rounds_key_value = true;
  const AttentionResult actual = attend(device(), dtype(), problem, c.num_steps, c.first_part);
  EXPECT_TRUE(all_close(actual.dkey, rounded(whole.dkey, dtype()), {}));
  EXPECT_TRUE(all_close(actual.dvalue, rounded(whole.dvalue, dtype()), {}));
}

std::vector<AttentionCase> attention_cases() {
  return {
      {"no_sequences", 0, 4, 4, 2, 1, 64},
      {"no_queries", 1, 0, 5, 2, 2, 64},
      {"no_keys", 1, 5, 0, 2, 2, 64},
      {"one_token", 1, 1, 1, 1, 1, 64},
      {"one_tile", 1, 64, 64, 1, 1, 64},
      {"ragged", 2, 200, 200, 3, 3, 64},
      {"not_causal", 1, 65, 127, 2, 2, 64, 0, 0, false},
      {"head_dim_12", 2, 70, 70, 4, 4, 12},
      {"head_dim_96", 1, 63, 63, 2, 1, 96},
      {"head_dim_100", 1, 129, 129, 1, 1, 100},
      {"head_dim_128", 1, 129, 129, 2, 2, 128},
      {"head_dim_160", 1, 65, 65, 1, 1, 160},
      {"groups_of_2", 2, 96, 96, 4, 2, 64},
      {"groups_of_4", 1, 130, 130, 4, 1, 128},
      {"groups_of_7", 1, 40, 40, 7, 1, 64},
      {"groups_of_8", 1, 150, 150, 8, 1, 64},
      // Around the tiles of 32, 64 and 128 rows of the GPU kernels.
      {"tokens_127", 1, 127, 127, 2, 1, 128},
      {"tokens_128", 1, 128, 128, 2, 1, 128},
      {"tokens_1000", 1, 1000, 1000, 1, 1, 64},
      {"more_keys", 2, 65, 200, 2, 1, 128, 0, 0, true, ascending(65, 135)},
      {"more_queries", 1, 200, 65, 2, 1, 100, 0, 0, true, {}, ascending(65, 60)},
      {"head_dim_8", 1, 65, 65, 2, 1, 8},
      {"head_dim_15", 1, 129, 65, 2, 2, 15, 0, 0, false},
      {"head_dim_160_long", 2, 200, 200, 3, 1, 160},
      {"head_dim_192", 1, 129, 129, 2, 1, 192},
      {"head_dim_256", 1, 129, 200, 2, 1, 256, 0, 0, true, ascending(129, 71)},
      {"documents_long", 2, 300, 300, 2, 1, 128, 0, 0, true, {}, {}, true},
      {"chunks_divide", 1, 64, 64, 2, 2, 64, 16, 16},
      {"chunks_do_not_divide", 1, 100, 100, 2, 1, 64, 24, 17},
      {"query_chunk_larger", 1, 96, 96, 2, 2, 64, 32, 8},
      {"key_chunk_larger", 1, 96, 96, 2, 2, 64, 8, 32},
      {"chunks_of_one", 1, 20, 20, 1, 1, 12, 1, 1},
      {"chunks_beyond_the_sequence", 1, 50, 50, 1, 1, 64, 1024, 1024},
      {"fully_masked", 1, 33, 40, 2, 1, 64, 0, 0, true, ascending(33), ascending(40, 33)},
      {"half_the_rows_masked", 1, 40, 40, 2, 1, 64, 16, 8, true, ascending(40), ascending(40, 20)},
      {"keys_all_before", 1, 40, 24, 2, 1, 64, 0, 0, true, ascending(40, 24), ascending(24)},
      {"zigzag_other_rank", 1, 64, 64, 2, 1, 64, 16, 24, true, zigzag(1, 4, 32), zigzag(2, 4, 32)},
      {"documents", 2, 130, 130, 2, 1, 64, 32, 48, true, {}, {}, true},
      {"documents_not_causal", 1, 80, 80, 2, 2, 64, 0, 0, false, {}, {}, true},
      {"ring_of_2", 2, 65, 130, 2, 2, 64, 0, 0, true, ascending(65, 65), {}, false, 2, 1},
      {"ring_of_3_ragged", 1, 50, 100, 4, 2, 64, 16, 24, true, ascending(50, 30), {}, false, 3, 1},
      {"ring_of_4_masked_first", 1, 32, 128, 2, 1, 64, 0, 0, true, ascending(32), {}, false, 4, 3},
      {"ring_of_4_masked_last", 1, 32, 128, 2, 1, 128, 0, 0, true, ascending(32), {}, false, 4, 0},
      {"ring_of_4_head_dim_160",
       1,
       100,
       400,
       2,
       1,
       160,
       0,
       0,
       true,
       ascending(100, 200),
       {},
       false,
       4,
       2},
      {"ring_of_2_head_dim_15",
       1,
       70,
       140,
       1,
       1,
       15,
       0,
       0,
       true,
       ascending(70, 70),
       {},
       false,
       2,
       1},
      // Long enough for tiles that no row of a tile sees, and for tiles that all rows see.
      {"documents_of_400", 1, 900, 900, 1, 1, 64, 0, 0, true, {}, {}, true, 1, 0, 400},
      {"documents_of_400_head_dim_128",
       1,
       900,
       900,
       2,
       1,
       128,
       0,
       0,
       true,
       {},
       {},
       true,
       1,
       0,
       400},
      {"head_dim_80_ring", 1, 150, 300, 2, 1, 80, 0, 0, true, ascending(150, 100), {}, false, 2, 1},
      {"ring_of_8_documents", 1, 64, 64, 2, 1, 64, 0, 0, true, {}, {}, true, 8, 5},
  };
}

RT_INSTANTIATE_OP_TEST(AttentionTest, attention_cases());

/// On a GPU without --deterministic, as the trainer runs.
class AttentionInAnyOrderTest : public ::testing::TestWithParam<AttentionCase> {
 protected:
  void SetUp() override { RT_SKIP_WITHOUT_GPU(); }
};

TEST_P(AttentionInAnyOrderTest, MatchesOracle) {
  static TestDevice device(DeviceType::kCuda, /*deterministic=*/false);
  expect_oracle(GetParam(), device, DType::kBFloat16);
}

INSTANTIATE_TEST_SUITE_P(Ops, AttentionInAnyOrderTest, ::testing::ValuesIn(attention_cases()),
                         [](const auto& each) { return each.param.name; });

/// Tests on every target that need no table of shapes.
struct NoCase {
  std::string name;
};
class AttentionPropertyTest : public OpTest<NoCase> {};

TEST_P(AttentionPropertyTest, OneDominantKeyIsCopied) {
  AttentionProblem problem = random_attention({1, 70, 2, 64}, 70, 1, 3, dtype());
  problem.causal = false;
  problem.softmax_scale = 1;
  problem.query = HostTensor(problem.query.shape, 8.0);
  for (double& element : problem.key.values) element = -16;  // scores of -8192
  for (std::int64_t d = 0; d < 64; ++d) problem.key[5 * 64 + d] = 16;
  const AttentionResult actual = attend(device(), dtype(), problem, 2);
  for (std::int64_t row = 0; row < 140; ++row) {
    for (std::int64_t d = 0; d < 64; ++d) {
      ASSERT_EQ(actual.out[row * 64 + d], problem.value[5 * 64 + d]) << row << " " << d;
    }
    ASSERT_EQ(actual.lse[row], 8192);
  }
}

TEST_P(AttentionPropertyTest, ConstantValueGivesConstantOutputAndNoScoreGradient) {
  AttentionProblem problem = random_attention({1, 100, 2, 64}, 100, 2, 5, dtype());
  problem.value = HostTensor(problem.value.shape, 0.5);
  const AttentionResult actual = attend(device(), dtype(), problem, 3, 2);
  const double out_tolerance = is_bf16() ? 1.0 / 256 : 4e-7;
  const double gradient_tolerance = is_bf16() ? 5e-2 : 1e-5;  // dp and delta cancel
  EXPECT_TRUE(
      all_close(actual.out, HostTensor(problem.query.shape, 0.5), {.absolute = out_tolerance}));
  EXPECT_TRUE(
      all_close(actual.dquery, HostTensor(problem.query.shape), {.absolute = gradient_tolerance}));
  EXPECT_TRUE(
      all_close(actual.dkey, HostTensor(problem.key.shape), {.absolute = gradient_tolerance}));
}

TEST_P(AttentionPropertyTest, StepsWithFarApartScoresFold) {
  for (const double scale : {100.0, -100.0}) {  // the second half's scores are larger, smaller
    AttentionProblem problem = random_attention({1, 16, 1, 64}, 32, 1, 9, dtype());
    problem.causal = false;
    problem.softmax_scale = 1;
    problem.query = HostTensor(problem.query.shape, 0.25);
    for (std::int64_t i = 16 * 64; i < 32 * 64; ++i) problem.key[i] += scale / 8;
    problem.key = rounded(problem.key, dtype());
    const AttentionResult actual = attend(device(), dtype(), problem, 2);
    const AttentionResult expected = attend(oracle(), DType::kFloat64, problem);
    const double tolerance = is_bf16() ? 5e-3 : 1e-5;
    EXPECT_LE(relative_l2(actual.out, expected.out), tolerance);
    EXPECT_LE(relative_l2(actual.dvalue, expected.dvalue), 3 * tolerance);
    EXPECT_TRUE(all_close(actual.lse, expected.lse, {.relative = 1e-6, .absolute = 2e-4}));
  }
}

TEST_P(AttentionPropertyTest, HiddenStepLeavesTheStateAsItWas) {
  AttentionProblem problem = random_attention({1, 32, 2, 64}, 64, 2, 11, dtype());
  const AttentionResult both = attend(device(), dtype(), problem, 2);  // the second sees nothing
  AttentionProblem first = problem;
  first.key = HostTensor({1, 32, 2, 64},
                         {problem.key.values.begin(), problem.key.values.begin() + 32 * 2 * 64});
  first.value = HostTensor(
      {1, 32, 2, 64}, {problem.value.values.begin(), problem.value.values.begin() + 32 * 2 * 64});
  first.key_positions = ascending(32);
  const AttentionResult alone = attend(device(), dtype(), first);
  EXPECT_TRUE(all_close(both.out, alone.out, {}));
  EXPECT_TRUE(all_close(both.lse, alone.lse, {}));
}

/// Every key is skipped in one of three calls: the two others give its part of dquery.
void expect_skipped(TestDevice& device, DType dtype, AttentionProblem problem, SkippedKeys middle) {
  const std::int64_t tokens = problem.key.shape[1];
  const AttentionResult whole = attend(device, dtype, problem);
  const std::int64_t row = whole.dkey.size() / tokens;
  HostTensor sum(whole.dquery.shape), twice = whole.dquery;
  const std::int64_t end = middle.begin + middle.tokens;
  for (const SkippedKeys skipped :
       {SkippedKeys{0, middle.begin}, middle, SkippedKeys{end, tokens - end}}) {
    SCOPED_TRACE(skipped.begin);
    problem.skipped = skipped;
    const AttentionResult actual = attend(device, dtype, problem);
    for (std::int64_t i = 0; i < whole.dkey.size(); ++i) {
      const std::int64_t key = i / row;
      const bool is_skipped = key >= skipped.begin && key < skipped.begin + skipped.tokens;
      ASSERT_EQ(std::isnan(actual.dkey[i]), is_skipped) << key;
      ASSERT_EQ(std::isnan(actual.dvalue[i]), is_skipped) << key;
      if (is_skipped) continue;
      ASSERT_NEAR(actual.dkey[i], whole.dkey[i], 1e-5);  // heads may add in any order
      ASSERT_NEAR(actual.dvalue[i], whole.dvalue[i], 1e-5);
    }
    for (std::int64_t i = 0; i < sum.size(); ++i) sum[i] += actual.dquery[i];
  }
  for (double& each : twice.values) each *= 2;
  EXPECT_LE(relative_l2(sum, twice), 2e-6);
}

void expect_skipped_keys_take_no_part(TestDevice& device, DType dtype) {
  for (const std::int64_t kv_heads : {2, 4}) {
    for (const std::int64_t head_dim : {64, 128}) {
      AttentionProblem problem = random_attention({1, 512, 4, head_dim}, 512, kv_heads, 13, dtype);
      for (const bool rounds : {false, true}) {
        SCOPED_TRACE(::testing::Message() << kv_heads << " " << head_dim << " " << rounds);
        problem.rounds_key_value = rounds;
        expect_skipped(device, dtype, problem, {128, 256});
        expect_skipped(device, dtype, problem, {100, 130});
      }
    }
  }
}

TEST_P(AttentionPropertyTest, SkippedKeysTakeNoPart) {
  expect_skipped_keys_take_no_part(device(), dtype());
}

TEST(AttentionInAnyOrder, SkippedKeysTakeNoPart) {
  RT_SKIP_WITHOUT_GPU();
  TestDevice device(DeviceType::kCuda, /*deterministic=*/false);
  expect_skipped_keys_take_no_part(device, DType::kBFloat16);
}

RT_INSTANTIATE_OP_TEST(AttentionPropertyTest, std::vector{NoCase{"property"}});

/// The oracle itself.
class AttentionOracleTest : public ::testing::Test {
 protected:
  TestDevice& cpu_ = TestDevice::shared(DeviceType::kCpu);
};

TEST_F(AttentionOracleTest, HandWorkedValues) {
  // Two tokens, one head of two: the second row weighs its keys with exp(0) and exp(ln 3).
  AttentionProblem problem = random_attention({1, 2, 1, 2}, 2, 1, 1);
  const double ln3 = std::log(3.0);
  problem.softmax_scale = 1;
  problem.query = HostTensor({1, 2, 1, 2}, {5, 7, 1, 0});
  problem.key = HostTensor({1, 2, 1, 2}, {0, 2, ln3, 4});
  problem.value = HostTensor({1, 2, 1, 2}, {4, 8, 0, 16});
  problem.dout = HostTensor({1, 2, 1, 2}, {1, 1, 1, 0});
  const AttentionResult result = attend(cpu_, DType::kFloat64, problem);
  const Tolerance tolerance{.absolute = 1e-14};
  EXPECT_TRUE(all_close(result.out, HostTensor({1, 2, 1, 2}, {4, 8, 1, 14}), tolerance));
  EXPECT_TRUE(all_close(result.lse, HostTensor({1, 1, 2}, {14, std::log(4.0)}), tolerance));
  // dp of the second row is (4, 0), delta 1: ds = (1/4 x 3, 3/4 x -1).
  EXPECT_TRUE(all_close(result.dquery,
                        HostTensor({1, 2, 1, 2}, {0, 0, -0.75 * ln3, 0.75 * 2 - 0.75 * 4}),
                        tolerance));
  EXPECT_TRUE(all_close(result.dkey, HostTensor({1, 2, 1, 2}, {0.75, 0, -0.75, 0}), tolerance));
  EXPECT_TRUE(all_close(result.dvalue, HostTensor({1, 2, 1, 2}, {1.25, 1, 0.75, 0}), tolerance));
}

TEST_F(AttentionOracleTest, RowsWithoutKeysAreMinusInfinityAndZero) {
  AttentionProblem problem = random_attention({1, 3, 1, 4}, 3, 1, 1);
  problem.key_positions = {1, 2, 3};
  const AttentionResult result = attend(cpu_, DType::kFloat64, problem);
  EXPECT_EQ(result.lse[0], -kInfinity);
  EXPECT_TRUE(std::isfinite(result.lse[1]));
  for (std::int64_t d = 0; d < 4; ++d) {
    EXPECT_EQ(result.out[d], 0);
    EXPECT_EQ(result.dquery[d], 0);
    EXPECT_EQ(result.dkey[2 * 4 + d], 0);
    EXPECT_EQ(result.dvalue[2 * 4 + d], 0);
  }
}

TEST_F(AttentionOracleTest, EqualsTheDefinition) {
  for (const AttentionCase& c : attention_cases()) {
    const AttentionProblem problem = problem_of(c, DType::kFloat64);
    const AttentionResult expected = attend_plainly(problem, DType::kFloat64);
    const AttentionResult actual =
        attend(cpu_, DType::kFloat64, problem, c.num_steps, c.first_part);
    EXPECT_LE(relative_l2(actual.out, expected.out), 1e-14) << c.name;
    EXPECT_TRUE(all_close(actual.lse, expected.lse, {.absolute = 1e-13})) << c.name;
    constexpr Tolerance kGradient{.relative = 1e-13, .absolute = 1e-15};  // nothing for one key
    EXPECT_TRUE(close_l2(actual.dquery, expected.dquery, kGradient)) << c.name;
    EXPECT_TRUE(close_l2(actual.dkey, expected.dkey, kGradient)) << c.name;
    EXPECT_TRUE(close_l2(actual.dvalue, expected.dvalue, kGradient)) << c.name;
  }
}

TEST_F(AttentionOracleTest, GradientsAreFiniteDifferences) {
  AttentionProblem problem = random_attention({1, 5, 2, 4}, 6, 1, 23);
  problem.lowest_visible = {0, 0, 0, 2, 2};
  const AttentionResult result = attend(cpu_, DType::kFloat64, problem);
  constexpr double kStep = 1e-5;
  const auto check = [&](HostTensor& input, const HostTensor& gradient) {
    for (std::int64_t i = 0; i < input.size(); ++i) {
      const double value = input[i];
      input[i] = value + kStep;
      const double above = dot(attend(cpu_, DType::kFloat64, problem).out, problem.dout);
      input[i] = value - kStep;
      const double below = dot(attend(cpu_, DType::kFloat64, problem).out, problem.dout);
      input[i] = value;
      EXPECT_NEAR((above - below) / (2 * kStep), gradient[i], 1e-8) << i;
    }
  };
  check(problem.query, result.dquery);
  check(problem.key, result.dkey);
  check(problem.value, result.dvalue);
}

}  // namespace
}  // namespace ringtrain
