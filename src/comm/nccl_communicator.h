#pragma once

#include <memory>

#include "ringtrain/comm/communicator.h"
#include "ringtrain/comm/world.h"

namespace ringtrain {

/// Collective: a group "world" of all ranks for the tensors of a CUDA device, over NCCL.
/// Errors: DeviceError in a build without NCCL, or with NCCL's text.
std::unique_ptr<Communicator> make_nccl_communicator(World& world, Device& device);

}  // namespace ringtrain
