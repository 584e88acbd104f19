#include "ringtrain/config/options.h"

#include <map>

#include "option_section.h"

namespace ringtrain {

const std::vector<Option>& options() {
  static const std::vector<Option> table = [] {
    std::vector<Option> rows;
    add_run_options(rows);
    add_model_options(rows);
    add_data_options(rows);
    add_optimizer_options(rows);
    add_original_options(rows);
    return rows;
  }();
  return table;
}

const Option* find_option(std::string_view name) {
  static const std::map<std::string_view, const Option*> by_name = [] {
    std::map<std::string_view, const Option*> result;
    for (const Option& option : options()) result.emplace(option.name, &option);
    return result;
  }();
  const auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : found->second;
}

std::vector<std::string> option_names(Command command) {
  std::vector<std::string> names;
  for (const Option& option : options()) {
    if (option.taken_by(command)) names.push_back(option.name);
  }
  return names;
}

bool is_section(std::string_view section) {
  const std::string prefix = std::string(section) + ".";
  for (const Option& option : options()) {
    if (option.name.starts_with(prefix)) return true;
  }
  return false;
}

std::string_view kind_name(const Option& option) {
  static constexpr std::string_view kNames[] = {"BOOL", "INT", "NUMBER", "TEXT", "dict(...)"};
  TrainConfig config;
  return kNames[option.field(config).index()];
}

TrainConfig default_config(Command command) {
  TrainConfig config;
  if (command == Command::kVerify) {
    config.dtype = "fp32";
    config.loss_reduction = "sequence";
  }
  return config;
}

}  // namespace ringtrain
