#pragma once

#include <array>

#include "ringtrain/ops/backend.h"

namespace ringtrain {

/// Attention to the keys before those that `args` skips, and to those behind them: two steps that
/// skip none and together do the same.
std::array<AttentionBackwardArgs, 2> around_skipped_keys(const AttentionBackwardArgs& args);

}  // namespace ringtrain
