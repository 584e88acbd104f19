#include "ringtrain/cli/argument_parser.h"

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <array>
#include <utility>

#include "ringtrain/config/suggestion.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// Names longer than this push their help to the next line.
constexpr std::size_t kHelpColumn = 44;

constexpr std::array<std::string_view, 3> kTrue{"True", "true", "1"};
constexpr std::array<std::string_view, 3> kFalse{"False", "false", "0"};

bool is_one_of(std::string_view text, const std::array<std::string_view, 3>& words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

bool is_boolean(std::string_view text) {
  return is_one_of(text, kTrue) || is_one_of(text, kFalse);
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

bool parse_bool(const std::string& option, const std::string& text) {
  if (is_one_of(text, kTrue)) return true;
  if (is_one_of(text, kFalse)) return false;
  throw InvalidArgument(fmt::format("--{} takes true or false, got \"{}\"", option, text));
}

ArgumentParser::ArgumentParser(const std::string& command, const std::string& description)
    : app_(std::make_unique<CLI::App>(description, command)) {
  names_.push_back("help");
  app_->set_help_flag();  // --help may stand among broken arguments: in_one_form finds it
  app_->get_formatter()->column_width(kHelpColumn);
}

ArgumentParser::~ArgumentParser() = default;

void ArgumentParser::add_option(const std::string& name, const std::string& help,
                                const Shown& shown, std::function<void(const std::string&)> use,
                                bool repeatable) {
  CLI::Option* option = app_->add_option(
      "--" + name,
      [use = std::move(use)](const CLI::results_t& values) {
        for (const std::string& value : values) use(value);
        return true;
      },
      help);
  option->group(shown.group)->type_name(shown.kind)->expected(1);
  option->multi_option_policy(repeatable ? CLI::MultiOptionPolicy::TakeAll
                                         : CLI::MultiOptionPolicy::TakeLast);
  if (!shown.default_value.empty()) option->default_str(shown.default_value);
  names_.push_back(name);
}

void ArgumentParser::add_flag(const std::string& name, const std::string& help, const Shown& shown,
                              std::function<void(bool)> use) {
  add_option(name, help, shown, [name, use = std::move(use)](const std::string& text) {
    use(parse_bool(name, text));
  });
  flags_.push_back(name);
}

bool ArgumentParser::is_known(const std::string& name) const {
  return contains(names_, name);
}
bool ArgumentParser::is_flag(const std::string& name) const {
  return contains(flags_, name);
}

std::vector<std::string> ArgumentParser::in_one_form(const std::vector<std::string>& arguments) {
  std::vector<std::string> pairs;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "-h" || argument == "--help" || argument.starts_with("--help=")) {
      help_wanted_ = true;
      return {};
    }
    if (!argument.starts_with("--") || argument.size() == 2) {
      throw InvalidArgument(
          fmt::format("unexpected argument '{}'; options look like --name=value{}", argument,
                      did_you_mean(argument, names_)));
    }
    const std::size_t equals = argument.find('=');
    std::string name = argument.substr(2, equals == argument.npos ? equals : equals - 2);
    const bool has_next = i + 1 < arguments.size();
    std::string value;
    if (!is_known(name)) {
      const bool negated = name.starts_with("no") && is_flag(name.substr(2));
      if (!negated || equals != argument.npos) {
        throw InvalidArgument(fmt::format("unknown option --{}{}; --help lists all", name,
                                          did_you_mean(name, names_)));
      }
      name = name.substr(2);
      value = "false";
    } else if (equals != argument.npos) {
      value = argument.substr(equals + 1);
    } else if (is_flag(name)) {
      value = has_next && is_boolean(arguments[i + 1]) ? arguments[++i] : "true";
    } else if (!has_next || arguments[i + 1].starts_with("--")) {
      throw InvalidArgument(fmt::format("--{0} needs a value: --{0}=VALUE", name));
    } else {
      value = arguments[++i];
    }
    pairs.push_back("--" + name);
    pairs.push_back(std::move(value));
  }
  return pairs;
}

bool ArgumentParser::parse(const std::vector<std::string>& arguments) {
  std::vector<std::string> pairs = in_one_form(arguments);
  if (help_wanted_) return false;
  std::reverse(pairs.begin(), pairs.end());  // the order in which CLI11 takes them
  try {
    app_->parse(std::move(pairs));
  } catch (const CLI::ParseError& error) {
    throw InvalidArgument(error.what());
  }
  return true;
}

std::string ArgumentParser::help() const {
  return app_->help();
}

}  // namespace ringtrain
