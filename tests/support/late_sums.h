#pragma once

#include <memory>

#include "ringtrain/comm/communicator.h"

namespace ringtrain {

/// `group`, of CPU ranks, whose all_reduce reads and writes its tensor as late as streams and
/// events allow: where a stream does not wait for a sum, or its memory has been used again, results
/// are wrong every time.
std::unique_ptr<Communicator> with_late_sums(std::unique_ptr<Communicator> group);

}  // namespace ringtrain
