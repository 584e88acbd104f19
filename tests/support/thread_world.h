#pragma once

#include <functional>

#include "ringtrain/comm/world.h"

namespace ringtrain {

/// Runs `body` as `num_ranks` ranks, one thread each, with a control plane between them: worlds of
/// any size in one process. Returns when all are done; if one throws, the others' waits end and the
/// exception of the lowest rank that threw by itself is thrown here.
void run_ranks(int num_ranks, const std::function<void(World&)>& body);

}  // namespace ringtrain
