#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ringtrain/config/train_config.h"

/// The one table of settings. It feeds the command line, --help, JSON files, --print_config, the
/// configuration saved with a run, and the test that reads every option back.
namespace ringtrain {

/// The jobs that take their settings from the table.
enum class Command : unsigned {
  kTrain = 1,
  kEval = 2,
  kVerify = 4,
  kPlan = 8,
  kSelftest = 16,
  kBench = 32
};

/// The field that an option sets; its type chooses the parser.
using FieldRef = std::variant<bool*, std::int64_t*, double*, std::string*, RopeScaling*>;

struct Option {
  std::string name;   ///< --name=value on the command line, "name": value (or nested) in JSON
  std::string group;  ///< heading in --help and --print_config
  std::string help;   ///< one line, with the unit
  FieldRef (*field)(TrainConfig&);
  unsigned commands;                   ///< which jobs take it: sum of Command values
  std::vector<std::string> choices{};  ///< every valid value of a text option; empty: any text
  bool has_meaning = true;             ///< false: accepted for the original's sake, does nothing
  bool none_is_zero = false;           ///< a number whose 0 means "not set": takes None and null

  /// plan and bench take what train takes, and options of their own.
  bool taken_by(Command command) const {
    auto takers = static_cast<unsigned>(command);
    if (command == Command::kPlan || command == Command::kBench) {
      takers |= static_cast<unsigned>(Command::kTrain);
    }
    return (commands & takers) != 0;
  }
};

/// All options, in the order of --help.
const std::vector<Option>& options();
/// nullptr if there is no such option.
const Option* find_option(std::string_view name);
/// Names of the options that `command` takes.
std::vector<std::string> option_names(Command command);
/// True if some option's name begins with `section` and a dot.
bool is_section(std::string_view section);

/// What --help shows as the kind of value: BOOL, INT, NUMBER, TEXT or dict(...).
std::string_view kind_name(const Option& option);

/// The option's value as --help and --print_config show it: texts in quotes, the rest as in JSON.
std::string shown_value(const Option& option, const TrainConfig& config);

/// Settings of a job before anything is read. verify compares in fp32 with the original's loss
/// reduction; everything else is TrainConfig's own.
TrainConfig default_config(Command command);

}  // namespace ringtrain
