#pragma once

#include <memory>

#include "ringtrain/comm/communicator.h"

namespace ringtrain {

/// When an all_reduce reads and writes its tensor: before the call returns, whatever else is
/// missing, or as late as streams and events allow. Where a stream does not wait for a sum, or its
/// memory has been used again, the two differ.
enum class SumTime { kAtOnce, kLate };

/// `group`, of CPU ranks, with sums at such times.
std::unique_ptr<Communicator> with_sums(SumTime time, std::unique_ptr<Communicator> group);

}  // namespace ringtrain
