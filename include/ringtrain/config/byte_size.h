#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ringtrain {

/// A number of bytes from "80GiB", "80GB", "1.5TiB" or "1024": units are B, KB, MB, GB, TB (powers
/// of 1000) and KiB, MiB, GiB, TiB (of 1024). Errors: InvalidArgument naming `option` and the
/// units.
std::size_t parse_byte_size(std::string_view option, const std::string& text);

/// In GiB with two digits: "79.60 GiB".
std::string format_gib(std::size_t bytes);

}  // namespace ringtrain
