// The building blocks of the Hopper kernels against plain loops, exactly: integers in, integers
// out.
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/tile_probes.h"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/backend/tensor_map.h"
#include "ringtrain/kernels/attention_sm90.h"
#include "support/gpu.h"

namespace ringtrain {
namespace {

using probes::Operand;

constexpr int kSize = 64;

/// Small integers, in which exchanged chunks and neighbouring rows show.
std::vector<float> pattern(int count, int salt) {
  std::vector<float> values;
  for (int i = 0; i < count; ++i) {
    values.push_back(static_cast<float>((i * (7 + salt) + i / 64 * 5 + salt) % 17 - 8));
  }
  return values;
}

class TileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    RT_SKIP_WITHOUT_GPU();
    if (!kernels::is_sm90_device()) GTEST_SKIP() << "not a Hopper GPU";
  }
};

TEST_F(TileTest, ProductsTakeEveryLayoutOfTheirOperands) {
  for (const int n : {64, 128}) {
    const std::vector<float> a = pattern(kSize * kSize, 1);
    const std::vector<float> b = pattern(kSize * n, 2);
    std::vector<float> expected(static_cast<std::size_t>(kSize * n));
    for (int row = 0; row < kSize; ++row) {
      for (int column = 0; column < n; ++column) {
        float sum = 0;
        for (int k = 0; k < kSize; ++k) {
          sum += a[static_cast<std::size_t>(row * kSize + k)] *
                 b[static_cast<std::size_t>(k * n + column)];
        }
        expected[static_cast<std::size_t>(row * n + column)] = sum;
      }
    }
    for (const Operand a_from :
         {Operand::kRegisters, Operand::kContractionMajor, Operand::kOuterMajor}) {
      for (const Operand b_from : {Operand::kContractionMajor, Operand::kOuterMajor}) {
        EXPECT_EQ(probes::product(a_from, b_from, n, a, b), expected)
            << n << " columns, a " << static_cast<int>(a_from) << ", b "
            << static_cast<int>(b_from);
      }
    }
  }
}

TEST_F(TileTest, AccumulatorsAreStoredBothWays) {
  const std::vector<float> values = pattern(kSize * kSize, 3);
  EXPECT_EQ(probes::stored(false, values), values);
  std::vector<float> transposed(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) transposed[i % 64 * 64 + i / 64] = values[i];
  EXPECT_EQ(probes::stored(true, values), transposed);
}

/// A [1, 50, 2, 72] tensor: its last boxes end outside in both directions.
struct Ragged {
  static constexpr int kTokens = 50, kHeads = 2, kColumns = 72;
  static constexpr int kElements = kTokens * kHeads * kColumns;

  static bool has(int column, int token) {
    return column >= 0 && column < kColumns && token >= 0 && token < kTokens;
  }
  static std::size_t at(int column, int token, int head) {
    return static_cast<std::size_t>((token * kHeads + head) * kColumns + column);
  }
};

TEST_F(TileTest, LoadsFillWithZerosOutsideTheTensor) {
  const std::vector<float> values = pattern(Ragged::kElements, 4);
  std::vector<__nv_bfloat16> rounded;
  for (const float value : values) rounded.push_back(__float2bfloat16(value));
  void* memory = nullptr;
  RT_CUDA_CHECK(cudaMalloc(&memory, rounded.size() * 2));
  RT_CUDA_CHECK(cudaMemcpy(memory, rounded.data(), rounded.size() * 2, cudaMemcpyHostToDevice));
  const CUtensorMap map = encode_panel_map(
      {memory, 1, Ragged::kTokens, Ragged::kTokens, Ragged::kHeads, Ragged::kColumns, kSize});
  for (const int column : {0, 64}) {
    for (const int token : {-8, 0, 40, 64}) {
      for (const int head : {0, 1}) {
        std::vector<float> expected;
        for (int i = 0; i < kSize * kSize; ++i) {
          const int c = column + i % kSize;
          const int t = token + i / kSize;
          expected.push_back(Ragged::has(c, t) ? values[Ragged::at(c, t, head)] : 0.0f);
        }
        EXPECT_EQ(probes::loaded(map, kSize, column, token, head), expected)
            << column << " " << token << " " << head;
      }
    }
  }
  cudaFree(memory);
}

TEST_F(TileTest, ReductionsAddInsideTheTensorOnly) {
  std::vector<float> expected = pattern(Ragged::kElements + 64, 5);  // 64 behind the end
  void* memory = nullptr;
  RT_CUDA_CHECK(cudaMalloc(&memory, expected.size() * 4));
  RT_CUDA_CHECK(cudaMemcpy(memory, expected.data(), expected.size() * 4, cudaMemcpyHostToDevice));
  const CUtensorMap map =
      encode_panel_map({memory, 1, Ragged::kTokens, Ragged::kTokens, Ragged::kHeads,
                        Ragged::kColumns, kSize, DType::kFloat32});
  const std::vector<float> values = pattern(kSize * kSize, 6);
  for (const int column : {0, 64}) {
    for (const int token : {0, 40}) {
      probes::reduce_add(map, values, column, token, 1);
      for (int i = 0; i < kSize * kSize; ++i) {
        const int c = column + i % kSize;
        const int t = token + i / kSize;
        if (Ragged::has(c, t)) expected[Ragged::at(c, t, 1)] += values[static_cast<std::size_t>(i)];
      }
    }
  }
  std::vector<float> actual(expected.size());
  RT_CUDA_CHECK(cudaMemcpy(actual.data(), memory, actual.size() * 4, cudaMemcpyDeviceToHost));
  cudaFree(memory);
  EXPECT_EQ(actual, expected);
}

}  // namespace
}  // namespace ringtrain
