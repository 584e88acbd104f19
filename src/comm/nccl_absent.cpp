#include "nccl_communicator.h"
#include "ringtrain/core/error.h"

namespace ringtrain {

std::unique_ptr<Communicator> make_nccl_communicator(World&, Device&) {
  throw DeviceError(
      "this build has no NCCL; configure with -DRINGTRAIN_CUDA=ON or use "
      "--device=cpu");
}

}  // namespace ringtrain
