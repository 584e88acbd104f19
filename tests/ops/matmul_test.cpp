#include <gtest/gtest.h>

#include <algorithm>

#include "ringtrain/ops/check.h"
#include "support/op_test.h"

namespace ringtrain {
namespace {

struct MatmulCase {
  std::string name;
  std::int64_t m, n, k;
};

class MatmulTest : public OpTest<MatmulCase> {
 protected:
  enum class Added { kNothing, kOut, kAddend };
  struct Problem {
    HostTensor a, b, added;
    bool transpose_a, transpose_b;
    Added what;
  };

  Problem problem(bool transpose_a, bool transpose_b, Added what) const {
    const auto& [name, m, n, k] = test_case();
    return {random_normal(transpose_a ? Shape{k, m} : Shape{m, k}, 1, dtype()),
            random_normal(transpose_b ? Shape{n, k} : Shape{k, n}, 2, dtype()),
            random_normal({m, n}, 3, dtype()),
            transpose_a,
            transpose_b,
            what};
  }

  static HostTensor run(TestDevice& device, DType compute, DType out_type, const Problem& problem) {
    const Arena::Scope scope(device.arena());
    const MatmulArgs args{
        .a = device.upload(problem.a, compute),
        .b = device.upload(problem.b, compute),
        .out = problem.what == Added::kOut ? device.upload(problem.added, out_type)
                                           : device.poisoned(problem.added.shape, out_type),
        .transpose_a = problem.transpose_a,
        .transpose_b = problem.transpose_b,
        .accumulate = problem.what == Added::kOut,
        .addend =
            problem.what == Added::kAddend ? device.upload(problem.added, out_type) : Tensor()};
    device.backend().matmul(args, device.stream());
    return device.download(args.out);
  }
};

/// By the definition, in double.
HostTensor multiply(const HostTensor& a, const HostTensor& b, bool transpose_a, bool transpose_b) {
  const std::int64_t m = a.shape[transpose_a ? 1 : 0], k = a.shape[transpose_a ? 0 : 1];
  const std::int64_t n = b.shape[transpose_b ? 0 : 1];
  HostTensor out({m, n});
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t p = 0; p < k; ++p) {
      const double left = transpose_a ? a[p * m + i] : a[i * k + p];
      for (std::int64_t j = 0; j < n; ++j) {
        out[i * n + j] += left * (transpose_b ? b[j * k + p] : b[p * n + j]);
      }
    }
  }
  return out;
}

TEST_P(MatmulTest, EveryTransposeAccumulateAndOutputTypeMatchesTheDefinition) {
  for (int variant = 0; variant < 8; ++variant) {
    const Problem p = problem((variant & 1) != 0, (variant & 2) != 0,
                              (variant & 4) != 0 ? Added::kOut : Added::kNothing);
    HostTensor expected = multiply(p.a, p.b, p.transpose_a, p.transpose_b);
    for (std::int64_t i = 0; i < expected.size() && p.what != Added::kNothing; ++i)
      expected[i] += p.added[i];

    const HostTensor oracle_out = run(oracle(), DType::kFloat64, DType::kFloat64, p);
    EXPECT_TRUE(close_l2(oracle_out, expected, {.relative = 1e-14})) << "variant " << variant;
    const HostTensor wide = run(device(), dtype(), DType::kFloat32, p);
    // Products of bf16 are exact, but tensor cores cut off what they align while they add them.
    EXPECT_TRUE(close_l2(wide, expected, {.relative = is_bf16() ? 1e-5 : 1e-6}))
        << "variant " << variant;
    const HostTensor out = run(device(), dtype(), dtype(), p);
    EXPECT_TRUE(matches(out, expected, 1e-6)) << "variant " << variant;
    if (is_bf16()) {
      EXPECT_TRUE(close_l2(out, expected, {.relative = 4e-3}));
    }
  }
}

TEST_P(MatmulTest, AddendIsAddedToTheRoundedProduct) {
  const Problem p = problem(false, true, Added::kAddend);
  const HostTensor product = multiply(p.a, p.b, false, true);
  HostTensor expected = product;
  HostTensor rival = rounded(product, dtype());
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    expected[i] += p.added[i];
    rival[i] += p.added[i];
  }
  EXPECT_TRUE(matches(run(device(), dtype(), dtype(), p), expected, 1e-6, rounded(rival, dtype())));
}

TEST_P(MatmulTest, IsDeterministic) {
  const Problem p = problem(true, false, Added::kOut);
  EXPECT_TRUE(all_close(run(device(), dtype(), DType::kFloat32, p),
                        run(device(), dtype(), DType::kFloat32, p), {}));
}

TEST_P(MatmulTest, ViewsMayStartAnywhere) {
  const Problem p = problem(false, true, Added::kOut);
  const auto run_shifted = [&](std::int64_t shift_a, std::int64_t shift_b, std::int64_t shift_out) {
    const Arena::Scope scope(device().arena());
    // The same numbers `shift` elements into a larger tensor.
    const auto shifted = [&](const HostTensor& tensor, std::int64_t shift) {
      HostTensor larger({tensor.size() + shift});
      std::copy(tensor.values.begin(), tensor.values.end(), larger.values.begin() + shift);
      return device().upload(larger, dtype()).view(shift, tensor.shape);
    };
    const MatmulArgs args{.a = shifted(p.a, shift_a),
                          .b = shifted(p.b, shift_b),
                          .out = shifted(p.added, shift_out),
                          .transpose_b = true,
                          .accumulate = true};
    device().backend().matmul(args, device().stream());
    return device().download(args.out);
  };
  HostTensor expected = multiply(p.a, p.b, false, true);
  for (std::int64_t i = 0; i < expected.size(); ++i) expected[i] += p.added[i];
  EXPECT_TRUE(matches(run_shifted(1, 0, 0), expected, 1e-6));
  EXPECT_TRUE(matches(run_shifted(0, 3, 0), expected, 1e-6));
  EXPECT_TRUE(matches(run_shifted(4, 2, 1), expected, 1e-6));
}

RT_INSTANTIATE_OP_TEST(MatmulTest, (std::vector<MatmulCase>{{"empty_rows", 0, 8, 8},
                                                            {"empty_columns", 8, 0, 8},
                                                            {"empty_inner", 8, 8, 0},
                                                            {"one", 1, 1, 1},
                                                            {"row_vector", 1, 72, 40},
                                                            {"square", 64, 64, 64},
                                                            {"hidden_48", 33, 48, 144},
                                                            {"ragged", 131, 67, 45},
                                                            {"several_tiles", 260, 520, 96},
                                                            // more than a GPU has processors
                                                            {"many_tiles", 2176, 2312, 72},
                                                            {"long_inner", 24, 40, 2100}}));

}  // namespace
}  // namespace ringtrain
