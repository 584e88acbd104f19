#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "ringtrain/comm/watchdog.h"
#include "ringtrain/comm/world.h"
#include "ringtrain/config/resolve.h"
#include "ringtrain/data/batch_feeder.h"
#include "ringtrain/train/engine.h"
#include "ringtrain/train/runtime.h"

namespace ringtrain {

struct EvaluationResult {
  double loss = 0;      ///< over all batches: a mean over tokens or rows, as loss_reduction says
  double accuracy = 0;  ///< likewise
  std::int64_t tokens = 0;
};

/// The loss of the parameters that `config.load_checkpoint` names on the first eval_steps batches
/// of eval_dataset. An object, so that devices outlive the run_job around `run` (comm/job.h).
class Evaluator {
 public:
  Evaluator(World& world, TrainConfig config, ConfigReport report);
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  /// Collective. `progress` hears of every batch that is done. Errors: InvalidArgument without a
  /// checkpoint or with eval_steps < 1; all of a run's.
  EvaluationResult run(const std::function<void(std::int64_t)>& progress);

 private:
  void set_up();

  World& world_;
  TrainConfig config_;
  ConfigReport report_;
  std::optional<Runtime> runtime_;
  std::optional<Engine> engine_;
  std::optional<Watchdog> watchdog_;
  std::unique_ptr<BatchFeeder> data_;
};

}  // namespace ringtrain
