#pragma once

#include <cstdint>
#include <memory>

#include "ringtrain/comm/communicator.h"
#include "ringtrain/comm/world.h"

namespace ringtrain {

/// Collective: a group "world" of all ranks for CPU tensors, over MPI. `World::make_communicator`
/// chooses it where it fits. One MPI call moves at most `max_piece_bytes`, because MPI counts in
/// ints; longer tensors travel in pieces.
std::unique_ptr<Communicator> make_mpi_communicator(World& world, Device& device,
                                                    std::int64_t max_piece_bytes);

}  // namespace ringtrain
