#pragma once

#include <cstdint>

namespace ringtrain {

/// One rectangle of visible (query, key) pairs of a ring step, in local indices: rows [q0, q0 + qn)
/// see key k0 + j from q0 + i iff j <= i + shift (full where shift >= kn). Kernels loop over these.
struct AttentionSegment {
  std::int64_t q0, qn, k0, kn, shift;
  bool operator==(const AttentionSegment&) const = default;
};

}  // namespace ringtrain
