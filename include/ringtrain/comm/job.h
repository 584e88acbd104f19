#pragma once

#include <functional>

#include "ringtrain/comm/world.h"

namespace ringtrain {

/// Collective. Runs `body` on every rank and returns the exit code of the process: what `body`
/// returns, or that of the error it threw, which is printed here, once:
///
///   - "ringtrain: <cause>" where every rank throws the same (a wrong flag): rank 0 prints, all
///     return the code, MPI ends in order;
///   - "ringtrain: [rank 3] <cause>" where only some do: the lowest of them prints what all of them
///     say, and the job ends at once with its code, so that no rank waits for a lost peer.
///
/// Calls nest. One belongs in `main`; another around work on devices, inside the scope of what
/// that work uses, since destructors may wait for operations that a lost peer never joins.
int run_job(World& world, const std::function<int()>& body);

}  // namespace ringtrain
