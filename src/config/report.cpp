#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "option_value.h"
#include "ringtrain/config/resolve.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;

std::string source_of(const Option& option, const ConfigReport& report) {
  const auto found = report.sources.find(option.name);
  return found == report.sources.end() ? "default" : found->second;
}

/// Puts `value` at a dotted name, as nested objects.
void insert_nested(Json& object, std::string_view name, Json value) {
  const std::size_t dot = name.find('.');
  if (dot == name.npos) {
    object[std::string(name)] = std::move(value);
  } else {
    insert_nested(object[std::string(name.substr(0, dot))], name.substr(dot + 1), std::move(value));
  }
}

/// The groups in the order of the table, each once.
std::vector<std::string> groups_of(Command command) {
  std::vector<std::string> groups;
  for (const Option& option : options()) {
    if (!option.taken_by(command)) continue;
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) {
      groups.push_back(option.group);
    }
  }
  return groups;
}

}  // namespace

std::string shown_value(const Option& option, const TrainConfig& config) {
  return value_of(option, config).dump();
}

std::string describe_config(Command command, const TrainConfig& config,
                            const ConfigReport& report) {
  std::string text;
  for (const std::string& group : groups_of(command)) {
    std::vector<std::array<std::string, 3>> rows;
    std::size_t name_width = 0, value_width = 0;
    for (const Option& option : options()) {
      if (option.group != group || !option.taken_by(command)) continue;
      rows.push_back({option.name, shown_value(option, config), source_of(option, report)});
      name_width = std::max(name_width, rows.back()[0].size());
      value_width = std::max(value_width, std::min<std::size_t>(rows.back()[1].size(), 24));
    }
    text += fmt::format("{}{}:\n", text.empty() ? "" : "\n", group);
    for (const auto& [name, value, source] : rows) {
      text += fmt::format("  {:<{}}  {:<{}}  {}\n", name, name_width, value, value_width, source);
    }
  }
  for (const std::string& notice : report.notices) text += fmt::format("\nnote: {}\n", notice);
  return text;
}

std::string config_to_json(Command command, const TrainConfig& config, const ConfigReport& report) {
  Json values = Json::object();
  Json sources = Json::object();
  for (const Option& option : options()) {
    if (!option.taken_by(command)) continue;
    sources[option.name] = source_of(option, report);
    // Read again, these would bring back the notice that they do nothing.
    if (!option.has_meaning && !report.sources.contains(option.name)) continue;
    // These two are already in the values of llama.*: read again, they would be applied twice.
    if (option.name == "load_llama_config" || option.name == "update_llama_config") continue;
    insert_nested(values, option.name, value_of(option, config));
  }
  values["provenance"] = Json{{"load_llama_config", config.load_llama_config},
                              {"update_llama_config", config.update_llama_config},
                              {"sources", sources},
                              {"notices", report.notices}};
  return values.dump(2) + "\n";
}

}  // namespace ringtrain
