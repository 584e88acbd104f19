#include "ringtrain/config/presets.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "ringtrain/config/suggestion.h"
#include "ringtrain/core/error.h"

namespace ringtrain {

const Preset& find_preset(std::string_view name) {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) {
    if (preset.name == name) return preset;
    names.emplace_back(preset.name);
  }
  throw InvalidArgument(
      fmt::format("load_llama_config '{}' is neither a preset ({}) nor json::FILE{}", name,
                  fmt::join(names, ", "), did_you_mean(name, names)));
}

}  // namespace ringtrain
