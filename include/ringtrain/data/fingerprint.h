#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ringtrain {

/// FNV-1a over 64 bits: recognises a changed file, not an adversary. `hash` continues an earlier
/// call's.
constexpr std::uint64_t fnv1a(std::string_view bytes, std::uint64_t hash = 0xcbf29ce484222325u) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

/// The same as 16 hexadecimal digits, as it stands in saved states.
std::string fingerprint(std::string_view bytes);

}  // namespace ringtrain
