#pragma once

#include <functional>
#include <vector>

#include "ringtrain/comm/world.h"

namespace ringtrain {

/// What to subtract from a rank's clock to get rank 0's, and how wrong that may be; in seconds.
struct ClockOffset {
  double offset_s = 0;
  double error_s = 0;
};

/// Collective. The offset of this rank's `clock` (seconds), measured by messages between it and
/// rank 0, to and fro, where `measured` says so, which is equal on all ranks; else 0. Of several
/// rounds the fastest counts; the error is half of its time at most.
ClockOffset find_clock_offset(World& world, const std::vector<bool>& measured,
                              const std::function<double()>& clock);

}  // namespace ringtrain
