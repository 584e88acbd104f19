#pragma once

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <string>

#include "device_buffer.h"
#include "ringtrain/kernels/gemm_sm90.h"

/// What the checks and the timings of the Hopper matrix products share.
namespace ringtrain::bench {

inline std::size_t size(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows * columns);
}

struct Operand {
  Operand(std::int64_t rows, std::int64_t columns, std::uint32_t seed, float scale = 1)
      : memory(size(rows, columns)) {
    fill(memory, seed, scale);
  }
  bf16* get() const { return memory.get(); }
  Buffer<bf16> memory;
};

struct Problem {
  std::int64_t m, n, k;
  std::string name() const { return fmt::format("[{}, {}, {}]", m, n, k); }
  double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  }
};

/// One of the products that there is a kernel for.
struct Kind {
  const char* name;
  bool transpose_a, transpose_b, accumulate, has_addend;
  DType out;
};
inline constexpr Kind kNt{"a b^T", false, true, false, false, DType::kBFloat16};
inline constexpr Kind kNtAdd{"a b^T + addend", false, true, false, true, DType::kBFloat16};
inline constexpr Kind kNn{"a b", false, false, false, false, DType::kBFloat16};
inline constexpr Kind kTn{"a^T b", true, false, false, false, DType::kFloat32};
inline constexpr Kind kTnAdd{"a^T b added", true, false, true, false, DType::kFloat32};
inline constexpr std::array kKinds{kNt, kNtAdd, kNn, kTn, kTnAdd};

inline kernels::GemmSm90Args launch_args(const Kind& kind, const Problem& p, const bf16* a,
                                         const bf16* b, void* out, const bf16* addend = nullptr) {
  return {.a = a,
          .b = b,
          .addend = addend,
          .out = out,
          .m = p.m,
          .n = p.n,
          .k = p.k,
          .transpose_a = kind.transpose_a,
          .transpose_b = kind.transpose_b,
          .accumulate = kind.accumulate,
          .out_type = kind.out};
}

/// Beside cuBLASLt: the parts of a feed-forward block.
void time_feed_forward(std::int64_t tokens, std::int64_t hidden, std::int64_t ffn);
/// The products of a layer and of the loss head, without those that are fused, and which
/// kernel the CUDA back end takes for each.
void time_products(std::int64_t tokens, std::int64_t hidden, std::int64_t ffn);

}  // namespace ringtrain::bench
