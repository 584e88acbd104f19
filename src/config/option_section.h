#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ringtrain/config/options.h"

namespace ringtrain {

/// Evaluation and self-test take a training run's command line as it is.
inline constexpr unsigned kTraining = static_cast<unsigned>(Command::kTrain) |
                                      static_cast<unsigned>(Command::kEval) |
                                      static_cast<unsigned>(Command::kSelftest);
inline constexpr unsigned kVerifying = static_cast<unsigned>(Command::kVerify);

/// Adds options whose fields lie in one struct: `kPath` are the members that lead to it from
/// TrainConfig. add<&AdamWConfig::lr>("lr", ...) in a section with prefix "optimizer." makes
/// "optimizer.lr".
template <auto... kPath>
class OptionSection {
 public:
  OptionSection(std::vector<Option>& table, std::string prefix, std::string group,
                unsigned commands)
      : table_(table), prefix_(std::move(prefix)), group_(std::move(group)), commands_(commands) {}

  /// Returns the new row, for what few options need; the reference lasts until the next add.
  template <auto kMember>
  Option& add(const std::string& name, std::string help) {
    FieldRef (*field)(TrainConfig&) = [](TrainConfig& config) -> FieldRef {
      return &((config.*....*kPath).*kMember);
    };
    table_.push_back({prefix_ + name, group_, std::move(help), field, commands_});
    return table_.back();
  }

 private:
  std::vector<Option>& table_;
  std::string prefix_;
  std::string group_;
  unsigned commands_;
};

/// The parts of the table, one function a file.
void add_run_options(std::vector<Option>& table);
void add_model_options(std::vector<Option>& table);
void add_data_options(std::vector<Option>& table);
void add_optimizer_options(std::vector<Option>& table);
void add_original_options(std::vector<Option>& table);

}  // namespace ringtrain
