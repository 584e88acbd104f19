#pragma once

#include <cstdint>

/// Warpgroup matrix multiply-accumulate, sm_90a (PTX ISA: wgmma). The 128 threads of a warpgroup
/// call together. Accumulators d of m64nN: thread t = 32 w + l holds, for column block j of 8,
/// d[4j .. 4j + 3] = (r, c), (r, c + 1), (r + 8, c), (r + 8, c + 1) with r = 16 w + l / 4 and
/// c = 8 j + 2 (l % 4). Between issue and wait nothing may touch d or the registers of A.
namespace ringtrain::kernels::ptx {

/// wgmma.fence: before the first wgmma, and after other instructions wrote d or A registers.
__device__ inline void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/// wgmma.commit_group: closes the group of the wgmma issued so far.
__device__ inline void wgmma_commit_group() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// wgmma.wait_group: returns when at most kPending of the latest groups are in flight.
template <int kPending>
__device__ inline void wgmma_wait_group() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Which index of a shared-memory operand is contiguous: the contraction's (K) or the other (MN).
enum class Major : int { kContraction = 0, kOuter = 1 };

// Operand lists of 16 accumulators each, for the instruction text and for its constraints.
#define RT_WGMMA_NAMES_0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
#define RT_WGMMA_NAMES_1 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
#define RT_WGMMA_NAMES_2 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
#define RT_WGMMA_NAMES_3 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
#define RT_WGMMA_NAMES_4 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
#define RT_WGMMA_NAMES_5 "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
#define RT_WGMMA_NAMES_6 \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
#define RT_WGMMA_LAST_1 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define RT_WGMMA_LAST_3 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define RT_WGMMA_LAST_7 \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define RT_WGMMA_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define RT_WGMMA_D16(i) RT_WGMMA_D4(i), RT_WGMMA_D4(i + 4), RT_WGMMA_D4(i + 8), RT_WGMMA_D4(i + 12)
#define RT_WGMMA_D32 RT_WGMMA_D16(0), RT_WGMMA_D16(16)
#define RT_WGMMA_D64 RT_WGMMA_D32, RT_WGMMA_D16(32), RT_WGMMA_D16(48)
#define RT_WGMMA_D128 \
  RT_WGMMA_D64, RT_WGMMA_D16(64), RT_WGMMA_D16(80), RT_WGMMA_D16(96), RT_WGMMA_D16(112)

/// wgmma.mma_async m64n64k16, bf16 -> fp32: d = A B + (accumulate ? d : 0); A, B by descriptor.
template <Major kMajorA, Major kMajorB>
__device__ inline void wgmma_m64k16(float (&d)[32], std::uint64_t a, std::uint64_t b,
                                    int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{" RT_WGMMA_NAMES_0 RT_WGMMA_LAST_1 "}, %32, %33, p, 1, 1, %35, %36;\n}\n"
      : RT_WGMMA_D32
      : "l"(a), "l"(b), "r"(accumulate), "n"(static_cast<int>(kMajorA)),
        "n"(static_cast<int>(kMajorB)));
}

/// wgmma.mma_async m64n128k16; see above.
template <Major kMajorA, Major kMajorB>
__device__ inline void wgmma_m64k16(float (&d)[64], std::uint64_t a, std::uint64_t b,
                                    int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{" RT_WGMMA_NAMES_0 RT_WGMMA_NAMES_1 RT_WGMMA_NAMES_2 RT_WGMMA_LAST_3
      "}, %64, %65, p, 1, 1, %67, %68;\n}\n"
      : RT_WGMMA_D64
      : "l"(a), "l"(b), "r"(accumulate), "n"(static_cast<int>(kMajorA)),
        "n"(static_cast<int>(kMajorB)));
}

/// wgmma.mma_async m64n256k16; see above.
template <Major kMajorA, Major kMajorB>
__device__ inline void wgmma_m64k16(float (&d)[128], std::uint64_t a, std::uint64_t b,
                                    int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{" RT_WGMMA_NAMES_0 RT_WGMMA_NAMES_1 RT_WGMMA_NAMES_2 RT_WGMMA_NAMES_3 RT_WGMMA_NAMES_4
          RT_WGMMA_NAMES_5 RT_WGMMA_NAMES_6 RT_WGMMA_LAST_7
      "}, %128, %129, p, 1, 1, %131, %132;\n}\n"
      : RT_WGMMA_D128
      : "l"(a), "l"(b), "r"(accumulate), "n"(static_cast<int>(kMajorA)),
        "n"(static_cast<int>(kMajorB)));
}

/// wgmma.mma_async m64n64k16 with A in registers: the fragment of accumulators converted to bf16,
/// a[i] = {d[8k + 2i], d[8k + 2i + 1]} for the k-th 16 columns.
template <Major kMajorB>
__device__ inline void wgmma_m64k16(float (&d)[32], std::uint32_t a0, std::uint32_t a1,
                                    std::uint32_t a2, std::uint32_t a3, std::uint64_t b,
                                    int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{" RT_WGMMA_NAMES_0 RT_WGMMA_LAST_1 "}, {%32,%33,%34,%35}, %36, p, 1, 1, %38;\n}\n"
      : RT_WGMMA_D32
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(accumulate),
        "n"(static_cast<int>(kMajorB)));
}

/// wgmma.mma_async m64n128k16 with A in registers; see above.
template <Major kMajorB>
__device__ inline void wgmma_m64k16(float (&d)[64], std::uint32_t a0, std::uint32_t a1,
                                    std::uint32_t a2, std::uint32_t a3, std::uint64_t b,
                                    int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{" RT_WGMMA_NAMES_0 RT_WGMMA_NAMES_1 RT_WGMMA_NAMES_2 RT_WGMMA_LAST_3
      "}, {%64,%65,%66,%67}, %68, p, 1, 1, %70;\n}\n"
      : RT_WGMMA_D64
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(accumulate),
        "n"(static_cast<int>(kMajorB)));
}

#undef RT_WGMMA_NAMES_0
#undef RT_WGMMA_NAMES_1
#undef RT_WGMMA_NAMES_2
#undef RT_WGMMA_NAMES_3
#undef RT_WGMMA_NAMES_4
#undef RT_WGMMA_NAMES_5
#undef RT_WGMMA_NAMES_6
#undef RT_WGMMA_LAST_1
#undef RT_WGMMA_LAST_3
#undef RT_WGMMA_LAST_7
#undef RT_WGMMA_D4
#undef RT_WGMMA_D16
#undef RT_WGMMA_D32
#undef RT_WGMMA_D64
#undef RT_WGMMA_D128

}  // namespace ringtrain::kernels::ptx
