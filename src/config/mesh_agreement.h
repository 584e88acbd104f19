#pragma once

#include "ringtrain/config/resolve.h"

namespace ringtrain {

/// The original takes the mesh twice: as --mesh_dim and inside the model's settings. Brings both
/// together: sizes must be equal, a -1 on one side takes the other's size, and a mesh named only
/// by the model's settings becomes mesh_dim. Errors: InvalidArgument naming both.
void agree_on_mesh(TrainConfig& config, ConfigReport& report);

}  // namespace ringtrain
