#pragma once

#include <memory>

#include "ringtrain/core/arena.h"
#include "ringtrain/core/device.h"
#include "ringtrain/ops/backend.h"
#include "ringtrain/parallel/mesh.h"

namespace ringtrain {

/// Everything a step runs on, passed down from the trainer; nothing here is global.
struct Context {
  Device& device;
  Backend& ops;
  Arena& arena;
  Mesh& mesh;
  Stream& compute;  ///< all operations, and tp collectives between them
  Stream& ring;     ///< key/value hops of ring attention (high priority)
  Stream& params;   ///< parameter gathers and gradient reductions
  DType compute_dtype;
};

}  // namespace ringtrain
