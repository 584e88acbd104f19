#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace ringtrain {

/// The arguments of one subcommand: options of the form --name=value or --name value, the last of
/// equal ones counting, and boolean ones also as --name and --noname (as absl takes them).
///
/// CLI11 holds the options and writes the help. It takes `--a= --b=` for `--a=--b=` and a value
/// that begins with a dash for an option, so arguments reach it in one form: name and value apart.
class ArgumentParser {
 public:
  /// `command` is "ringtrain train"; `description` heads its help.
  ArgumentParser(const std::string& command, const std::string& description);
  ~ArgumentParser();

  /// What an option's help shows beside its name and line.
  struct Shown {
    std::string group;
    std::string kind;           ///< "INT", "TEXT", ...
    std::string default_value;  ///< empty: none
  };
  /// Calls `use` with the option's text if it was given; with `repeatable` once for each.
  void add_option(const std::string& name, const std::string& help, const Shown& shown,
                  std::function<void(const std::string&)> use, bool repeatable = false);
  /// Calls `use` with the option's value if it was given.
  void add_flag(const std::string& name, const std::string& help, const Shown& shown,
                std::function<void(bool)> use);

  /// Reads `arguments` (without program and subcommand); false if they ask for --help.
  /// Errors: InvalidArgument naming the argument, and the nearest option for an unknown one.
  bool parse(const std::vector<std::string>& arguments);
  std::string help() const;

 private:
  /// Name, value, name, value, ...; stops at --help.
  std::vector<std::string> in_one_form(const std::vector<std::string>& arguments);
  bool is_known(const std::string& name) const;
  bool is_flag(const std::string& name) const;

  std::unique_ptr<CLI::App> app_;
  std::vector<std::string> names_;
  std::vector<std::string> flags_;
  bool help_wanted_ = false;
};

/// True or False, true or false, 1 or 0. Errors: InvalidArgument naming `option`.
bool parse_bool(const std::string& option, const std::string& text);

}  // namespace ringtrain
