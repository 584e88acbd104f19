#include "ringtrain/backend/cuda_check.h"

#include <fmt/format.h>

#include <string_view>

#include "ringtrain/core/error.h"

namespace ringtrain {

void check_cuda(cudaError_t status, const char* call, std::source_location where) {
  if (status == cudaSuccess) return;
  const std::string_view path = where.file_name();
  throw DeviceError(fmt::format("{} failed: {} ({}) at {}:{}", call, cudaGetErrorString(status),
                                cudaGetErrorName(status), path.substr(path.find_last_of('/') + 1),
                                where.line()));
}

}  // namespace ringtrain
