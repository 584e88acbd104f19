#include <fmt/format.h>

#include <fstream>
#include <set>
#include <sstream>

#include "ringtrain/config/suggestion.h"
#include "ringtrain/core/error.h"
#include "settings.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;

/// nlohmann keeps the last of equal keys; one of them was surely not meant.
class DuplicateKeys {
 public:
  bool operator()(int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open_objects_.emplace_back();
    if (event == Json::parse_event_t::object_end) open_objects_.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto key = parsed.get<std::string>();
      if (!open_objects_.back().insert(key).second) {
        throw InvalidArgument(fmt::format("the key '{}' is given twice", key));
      }
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> open_objects_;
};

/// Every option and every section.
std::vector<std::string> known_keys() {
  std::set<std::string> keys;
  for (const Option& option : options()) {
    for (std::size_t end = option.name.find('.'); end != std::string::npos;
         end = option.name.find('.', end + 1)) {
      keys.insert(option.name.substr(0, end));
    }
    keys.insert(option.name);
  }
  return {keys.begin(), keys.end()};
}

/// Walks an object into settings; `path` is the dotted name of the object so far.
class Flattener {
 public:
  explicit Flattener(std::string source) : source_(std::move(source)) {}

  void add(const Json& object, const std::string& path) {
    for (const auto& [key, value] : object.items()) {
      const std::string name = path.empty() ? key : path + "." + key;
      if (name == "provenance") continue;
      if (const Option* option = find_option(name)) {
        add_setting(*option, name, value);
      } else if (!is_section(name)) {
        throw InvalidArgument(
            fmt::format("unknown key '{}'{}", name, did_you_mean(name, known_keys())));
      } else if (!value.is_object()) {
        throw InvalidArgument(
            fmt::format("{} is a section and takes a JSON object, got {}", name, value.dump()));
      } else {
        add(value, name);
      }
    }
  }

  std::vector<Setting> take() { return std::move(settings_); }

 private:
  void add_setting(const Option& option, const std::string& name, Json value) {
    if (!seen_.insert(&option).second) {
      throw InvalidArgument(fmt::format("the key '{}' is given twice", name));
    }
    // The one text option that holds a dictionary may be written as one.
    if (name == "update_llama_config" && value.is_object()) value = value.dump();
    settings_.push_back({&option, name, std::move(value), source_});
  }

  std::string source_;
  std::vector<Setting> settings_;
  std::set<const Option*> seen_;
};

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || std::filesystem::is_directory(path)) {
    throw IoError(fmt::format("cannot read {}", path.string()));
  }
  return text.str();
}

}  // namespace

Json parse_json(const std::string& text) {
  try {
    return Json::parse(text, DuplicateKeys());
  } catch (const Json::parse_error& error) {
    // "[json.exception.parse_error.101] parse error at line 3, column 5: ..."
    const std::string_view what = error.what();
    const std::size_t after = what.find("] ");
    throw InvalidArgument(std::string(what.substr(after == what.npos ? 0 : after + 2)));
  }
}

Json read_json_object(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  Json object = parse_json(text);
  if (!object.is_object()) throw InvalidArgument("the file holds no JSON object");
  return object;
}

std::vector<Setting> settings_of_file(const std::filesystem::path& path) {
  return with_context(fmt::format("reading {}", path.string()), [&] {
    Flattener flattener("file " + path.string());
    flattener.add(read_json_object(path), "");
    return flattener.take();
  });
}

}  // namespace ringtrain
