#pragma once

#include <cstdint>

namespace ringtrain::kernels::ptx {

/// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32: d += a b for a 16 x 16 and b 16 x 8.
/// Lane t holds of d: rows t / 4 and t / 4 + 8 (d[0..1], d[2..3]), columns 2 (t % 4) and the next.
__device__ inline void mma_m16n8k16_bf16(float (&d)[4], const std::uint32_t (&a)[4],
                                         std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// ldmatrix.sync.aligned.m8n8.x4.shared.b16: four 8 x 8 matrices; lanes 8i .. 8i + 7 give the
/// addresses of the rows of matrix i (16 bytes each, aligned), which arrives in r[i].
__device__ inline void ldmatrix_x4(std::uint32_t (&r)[4], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* row) {
  ldmatrix_x4(r, static_cast<std::uint32_t>(__cvta_generic_to_shared(row)));
}

/// ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16: the same with each matrix transposed.
__device__ inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

}  // namespace ringtrain::kernels::ptx
