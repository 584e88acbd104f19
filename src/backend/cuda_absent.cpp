// Stands in for src/backend/cuda in a build without CUDA.
#include "ringtrain/bench/paced_copy.h"
#include "ringtrain/core/device.h"
#include "ringtrain/core/error.h"
#include "ringtrain/ops/backend.h"

namespace ringtrain {
namespace {

constexpr const char* kAbsent =
    "this program was built without CUDA; build with -DRINGTRAIN_CUDA=ON or run with --device=cpu";

}  // namespace

int cuda_device_count() noexcept {
  return 0;
}

std::unique_ptr<Device> make_cuda_device(int) {
  throw DeviceError(kAbsent);
}

std::unique_ptr<Backend> make_cuda_backend(Device&, bool) {
  throw DeviceError(kAbsent);
}

std::unique_ptr<PacedCopier> make_cuda_paced_copier(Device&, const LinkModel&) {
  throw DeviceError(kAbsent);
}

}  // namespace ringtrain
