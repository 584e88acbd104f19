#include "ringtrain/core/environment.h"

#include <fmt/format.h>

#include <cstdlib>
#include <string_view>

#include "ringtrain/core/error.h"

namespace ringtrain {

LogLevel environment_log_level() {
  const char* variable = std::getenv("RINGTRAIN_LOG_LEVEL");
  const std::string_view level = variable == nullptr ? "" : variable;
  if (level.empty() || level == "info") return LogLevel::kInfo;
  if (level == "warning") return LogLevel::kWarning;
  if (level == "quiet") return LogLevel::kQuiet;
  throw InvalidArgument(fmt::format(
      "the environment variable RINGTRAIN_LOG_LEVEL is '{}', not info, warning or quiet", level));
}

AttentionKernels environment_attention_kernels() {
  const char* variable = std::getenv("RINGTRAIN_ATTENTION");
  const std::string_view kernels = variable == nullptr ? "" : variable;
  if (kernels.empty() || kernels == "auto") return AttentionKernels::kAuto;
  if (kernels == "portable") return AttentionKernels::kPortable;
  if (kernels == "sm90") return AttentionKernels::kSm90;
  throw InvalidArgument(fmt::format(
      "the environment variable RINGTRAIN_ATTENTION is '{}', not auto, portable or sm90", kernels));
}

}  // namespace ringtrain
