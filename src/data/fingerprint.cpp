#include "ringtrain/data/fingerprint.h"

#include <fmt/format.h>

namespace ringtrain {

std::string fingerprint(std::string_view bytes) {
  return fmt::format("{:016x}", fnv1a(bytes));
}

}  // namespace ringtrain
