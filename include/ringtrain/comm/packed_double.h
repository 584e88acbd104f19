#pragma once

#include <cstring>
#include <string>

/// A number as the bytes of a message between equal processes.
namespace ringtrain {

inline std::string packed(double value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline double unpacked(const std::string& bytes) {
  double value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace ringtrain
