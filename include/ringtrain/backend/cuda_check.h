#pragma once

#include <cuda_runtime_api.h>

#include <source_location>

namespace ringtrain {

/// Errors: DeviceError "<call> failed: <message> (<error name>) at <file>:<line>" unless `status`
/// is success. An error of an earlier asynchronous kernel may surface in a later call.
void check_cuda(cudaError_t status, const char* call,
                std::source_location where = std::source_location::current());

}  // namespace ringtrain

/// Checks a CUDA runtime call and names it in the error.
#define RT_CUDA_CHECK(call) ::ringtrain::check_cuda((call), #call)
