#pragma once

#include "ringtrain/core/device.h"

namespace ringtrain {

/// Memory of this host that processes may still take, and all of it: within the limit of the
/// control group (v1 or v2) where that is lower than what the machine has.
Device::MemoryInfo host_memory();

}  // namespace ringtrain
