#pragma once

#include <memory>

#include "ringtrain/bench/paced_copy.h"

namespace ringtrain {

/// Carries messages on `link.processors` SMs, which from `start` to `stop` do nothing else.
/// Errors: InvalidArgument for none or all SMs; DeviceError if streams cannot wait for words of
/// memory.
std::unique_ptr<PacedCopier> make_resident_copier(Device& device, const LinkModel& link);

}  // namespace ringtrain
