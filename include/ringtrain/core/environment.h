#pragma once

#include <string>

/// Debug switches. All of them are read here, and each is a row of the README's table.
namespace ringtrain {

/// RINGTRAIN_LOG_LEVEL: "info" (default), "warning" or "quiet". Errors: InvalidArgument.
enum class LogLevel { kInfo, kWarning, kQuiet };
LogLevel environment_log_level();

}  // namespace ringtrain
