#pragma once

#include <string>

/// Debug switches. All of them are read here, and each is a row of the README's table.
namespace ringtrain {

/// RINGTRAIN_LOG_LEVEL: "info" (default), "warning" or "quiet". Errors: InvalidArgument.
enum class LogLevel { kInfo, kWarning, kQuiet };
LogLevel environment_log_level();

/// RINGTRAIN_ATTENTION: "auto" (default), "portable" or "sm90": the attention kernels of the CUDA
/// back end. "sm90" is an error on a GPU without them. Errors: InvalidArgument.
enum class AttentionKernels { kAuto, kPortable, kSm90 };
AttentionKernels environment_attention_kernels();

/// RINGTRAIN_MATMUL: "auto" (default), "cublaslt" or "sm90": matrix products of the CUDA back end
/// by the faster of the two, by cuBLASLt, or by Hopper kernels wherever these can compute them.
/// "sm90" is an error on a GPU without them. Errors: InvalidArgument.
enum class MatmulKernels { kAuto, kCublasLt, kSm90 };
MatmulKernels environment_matmul_kernels();

}  // namespace ringtrain
