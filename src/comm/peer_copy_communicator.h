#pragma once

#include <memory>

#include "ringtrain/comm/communicator.h"
#include "ringtrain/comm/world.h"

namespace ringtrain {

/// `group`, one of those into which all ranks have been split by `color`, with its messages
/// (exchange, all_to_all) carried by copy engines: each rank copies into memory of the receiver,
/// which it has mapped. Streams wait for each other by words in memory, and the hosts tell each
/// other, over `plane`, where messages go, a call ahead of the device. Collective over `plane`.
///
/// `group` itself with Transport::kAuto where some rank of any group cannot map the memory of its
/// peers. Errors: DeviceError then with Transport::kCopyEngines, naming a rank and what it lacks.
std::unique_ptr<Communicator> with_peer_copies(std::unique_ptr<Communicator> group, int color,
                                               Transport transport, std::shared_ptr<World> plane,
                                               Device& device);

}  // namespace ringtrain
