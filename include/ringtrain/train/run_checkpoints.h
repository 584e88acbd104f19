#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "ringtrain/comm/world.h"
#include "ringtrain/config/resolve.h"
#include "ringtrain/train/engine.h"

namespace ringtrain {

/// Where a run stands at an optimizer update, beside the values on the device. A train state
/// always stands at an update: micro-batches accumulated since then are trained again.
struct RunPosition {
  std::int64_t step = 0;         ///< micro-batches that the parameters have seen
  std::int64_t num_updates = 0;  ///< optimizer updates
  double gradient_norm = 0;      ///< of the last update
  std::string data_state;        ///< position of the training data; empty: its beginning
  std::string eval_data_state;   ///< likewise of the evaluation data
};

/// The train state that a run begins with.
struct FoundState {
  std::filesystem::path train_state;
  bool is_own = false;           ///< of the run directory, to be continued as it is
  bool parameters_only = false;  ///< a new run begins with its parameters
};
/// Collective. With autoresume that of the run directory, else the one load_checkpoint names;
/// nullopt for neither. Its model has been compared with the run's, vocab_size being final. `warn`
/// hears of damaged saves on rank 0, `report` of settings that differ.
/// Errors: IoError if there is none where load_checkpoint says, or only damaged ones;
/// InvalidArgument if it is of another model.
std::optional<FoundState> find_state(World& world, const TrainConfig& config,
                                     const std::filesystem::path& run_directory,
                                     ConfigReport& report,
                                     const std::function<void(const std::string&)>& warn);

/// What a save holds beside the exported parameters.
enum class SaveKind { kRolling, kMilestone };

/// Saves and restores a run:
///
///   checkpoint/step-00000100/            parameters as a Hugging Face directory
///     train_state/                       masters, moments and RunPosition, exact
///     dataset_state.json                 for --load_dataset_state
///     config.resolved.json
class RunCheckpoints {
 public:
  /// `resolved_config` is saved with each checkpoint. The arguments must outlive this.
  RunCheckpoints(World& world, const TrainConfig& config, std::string resolved_config,
                 std::filesystem::path run_directory);

  /// Collective: fills masters, moments and counters. Errors: IoError.
  RunPosition restore(const std::filesystem::path& train_state, Engine& engine, Context& context);
  /// Fills the masters alone from a train state or a Hugging Face directory.
  void restore_parameters(const std::filesystem::path& source, bool is_train_state, Engine& engine,
                          Context& context);

  /// Collective: writes a save of `position`; with its train state if save_optimizer_state asks
  /// for it, or `with_state`. Errors: IoError; earlier saves survive.
  void save(const RunPosition& position, SaveKind kind, bool with_state, Engine& engine,
            Context& context);

 private:
  World& world_;
  const TrainConfig& config_;
  std::string resolved_config_;
  std::filesystem::path run_directory_;
};

}  // namespace ringtrain
