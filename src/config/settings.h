#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ringtrain/config/options.h"

/// Reading files into settings, before anything is applied.
namespace ringtrain {

/// One value as one source gave it.
struct Setting {
  const Option* option;
  std::string name;  ///< how the source called it: "--seed", "llama.hidden_size"
  nlohmann::ordered_json value;
  std::string source;  ///< "file x.json", "preset 7b", "command line"
};

/// Parses JSON text. Errors: InvalidArgument with line and column, also for a key that an object
/// holds twice.
nlohmann::ordered_json parse_json(const std::string& text);

/// Reads the JSON object of `path`. Errors: IoError if it cannot be read; InvalidArgument.
nlohmann::ordered_json read_json_object(const std::filesystem::path& path);

/// The settings of a --config file: nested objects, dotted keys, or both mixed. The "provenance"
/// section of a saved config.resolved.json is skipped, so that such a file can be read again.
/// Errors: InvalidArgument naming the key path, and the nearest valid one; an option given twice.
std::vector<Setting> settings_of_file(const std::filesystem::path& path);

/// The llama.* settings of a model file: our own keys as in configs/models (strict), or a Hugging
/// Face config.json, recognised by its model_type or architectures. Keys of the latter that are
/// not known are named in `notices`; those that would change the mathematics are refused.
/// Errors: InvalidArgument naming the key.
std::vector<Setting> settings_of_model(const nlohmann::ordered_json& model,
                                       const std::string& source,
                                       std::vector<std::string>& notices);

/// The settings of update_llama_config: dict(...) or a JSON object with our own keys.
std::vector<Setting> settings_of_update(const std::string& text, const std::string& source);

}  // namespace ringtrain
