#pragma once

#include <fmt/format.h>

#include <cstdint>

#include "ringtrain/core/error.h"

namespace ringtrain {

/// A size that kernels count in 32 bits. Errors: InvalidArgument beyond that.
inline int narrow(std::int64_t size) {
  if (size > INT32_MAX) throw InvalidArgument(fmt::format("a size of {} is too large", size));
  return static_cast<int>(size);
}

}  // namespace ringtrain
