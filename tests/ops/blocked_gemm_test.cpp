// The product that the CPU back end falls back on without OpenBLAS.
#include <gtest/gtest.h>

#include "../../src/backend/cpu/gemm.h"
#include "support/host_tensor.h"

namespace ringtrain {
namespace {

TEST(BlockedGemmTest, EqualsTheOtherProductInsideALargerMatrix) {
  struct Sizes {
    std::int64_t m, n, k;
  };
  for (const Sizes size : {Sizes{1, 1, 1}, Sizes{4, 8, 16}, Sizes{67, 45, 300}, Sizes{130, 9, 0}}) {
    for (int variant = 0; variant < 8; ++variant) {
      const bool transpose_a = (variant & 1) != 0, transpose_b = (variant & 2) != 0;
      const std::int64_t stride = 310;  // beyond every row
      const HostTensor a = random_normal({stride, stride}, 1);
      const HostTensor b = random_normal({stride, stride}, 2);
      HostTensor expected = random_normal({size.m, stride}, 3);
      HostTensor actual = expected;
      const cpu::Matrix<double> left{a.values.data(), stride, transpose_a};
      const cpu::Matrix<double> right{b.values.data(), stride, transpose_b};
      cpu::gemm<double>(size.m, size.n, size.k, left, right, expected.values.data(), stride,
                        (variant & 4) != 0);
      cpu::blocked_gemm<double>(size.m, size.n, size.k, left, right, actual.values.data(), stride,
                                (variant & 4) != 0);
      EXPECT_TRUE(all_close(actual, expected, {.absolute = 1e-12}))
          << size.m << " " << size.n << " " << size.k << " variant " << variant;
    }
  }
}

}  // namespace
}  // namespace ringtrain
