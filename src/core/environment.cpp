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

}  // namespace ringtrain
