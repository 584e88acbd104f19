#pragma once

#include <span>
#include <string_view>

namespace ringtrain {

/// A file of configs/models, built into the program.
struct Preset {
  std::string_view name;  ///< "7b"
  std::string_view json;  ///< keys as llama.*
};

/// All presets, by name.
std::span<const Preset> presets();

/// Errors: InvalidArgument listing the presets.
const Preset& find_preset(std::string_view name);

}  // namespace ringtrain
