#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace ringtrain {

/// One rectangle of visible (query, key) pairs of a ring step, in local indices: rows [q0, q0 + qn)
/// see key k0 + j from q0 + i iff j <= i + shift (full where shift >= kn). Kernels loop over these.
struct AttentionSegment {
  std::int64_t q0 = 0, qn = 0, k0 = 0, kn = 0, shift = 0;
  bool operator==(const AttentionSegment&) const = default;
};

/// What `segment` shows of keys [token, token + tokens), counted from `token`; nothing if that is
/// none.
inline std::optional<AttentionSegment> among_keys(const AttentionSegment& segment,
                                                  std::int64_t token, std::int64_t tokens) {
  const std::int64_t begin = std::max(segment.k0, token);
  const std::int64_t end = std::min(segment.k0 + segment.kn, token + tokens);
  const std::int64_t shift = segment.shift - (begin - segment.k0);
  if (begin >= end || segment.qn + shift <= 0) return {};  // the last row sees the first of them
  return AttentionSegment{segment.q0, segment.qn, begin - token, end - begin, shift};
}

}  // namespace ringtrain
