#pragma once

#include <memory>

#include "ringtrain/core/arena.h"
#include "ringtrain/core/device.h"
#include "ringtrain/core/step_observer.h"
#include "ringtrain/ops/backend.h"
#include "ringtrain/parallel/mesh.h"

namespace ringtrain {

/// Everything a step runs on, passed down from the trainer; nothing here is global.
struct Context {
  Device& device;
  Backend& ops;
  Arena& arena;
  Mesh& mesh;
  Stream& compute;  ///< all operations, and collectives that nothing hides
  Stream& ring;     ///< messages within a layer, high priority: hops, exchanges of heads, tp sums
  Stream& params;   ///< parameter gathers and gradient reductions
  Stream& beside;   ///< a half of what the compute stream would do, where the halves may overlap
  DType compute_dtype;
  Arena& host;        ///< host memory that copies to and from the device asynchronously
  Stream& to_host;    ///< copies from device memory to `host`
  Stream& to_device;  ///< copies from `host` to device memory
  StepObserver* observer = nullptr;  ///< hears where a step is (Region); null: nobody listens

  /// Lets the compute stream wait for communication on another stream, as a region `label` with
  /// the group that it belongs to.
  void wait_for(const Event& event, const Label& label) const {
    const Region region(observer, compute, label);
    compute.wait(event);
  }
};

}  // namespace ringtrain
