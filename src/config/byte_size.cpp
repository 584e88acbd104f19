#include "ringtrain/config/byte_size.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr double kKibi = 1024.0;

using Unit = std::pair<std::string_view, double>;
constexpr std::array kUnits{Unit{"", 1},
                            Unit{"B", 1},
                            Unit{"KB", 1e3},
                            Unit{"MB", 1e6},
                            Unit{"GB", 1e9},
                            Unit{"TB", 1e12},
                            Unit{"KiB", kKibi},
                            Unit{"MiB", kKibi* kKibi},
                            Unit{"GiB", kKibi* kKibi* kKibi},
                            Unit{"TiB", kKibi* kKibi* kKibi* kKibi}};
constexpr double kMost = 1e18;

}  // namespace

std::size_t parse_byte_size(std::string_view option, const std::string& text) {
  const char* end = text.data() + text.size();
  double number = 0;
  const auto read = std::from_chars(text.data(), end, number);
  std::string_view unit(read.ptr, static_cast<std::size_t>(end - read.ptr));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const auto& [name, bytes] : kUnits) {
    if (read.ec != std::errc() || unit != name) continue;
    if (number >= 0 && number * bytes <= kMost) return static_cast<std::size_t>(number * bytes);
  }
  throw InvalidArgument(
      fmt::format("{} takes a size such as 80GiB, 80GB, 81559MiB or a number of bytes, got '{}'",
                  option, text));
}

std::string format_gib(std::size_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (kKibi * kKibi * kKibi));
}

}  // namespace ringtrain
