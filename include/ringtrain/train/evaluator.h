#pragma once

#include <cstdint>
#include <functional>

#include "ringtrain/comm/world.h"
#include "ringtrain/config/train_config.h"

namespace ringtrain {

struct EvaluationResult {
  double loss = 0;      ///< over all batches: a mean over tokens or rows, as loss_reduction says
  double accuracy = 0;  ///< likewise
  std::int64_t tokens = 0;
};

/// Collective: the loss of the parameters that `config.load_checkpoint` names on the first
/// eval_steps batches of eval_dataset. `progress` hears of every batch that is done.
/// Errors: InvalidArgument without a checkpoint or with eval_steps < 1; all of a run's.
EvaluationResult evaluate_checkpoint(World& world, TrainConfig config,
                                     const std::function<void(std::int64_t)>& progress);

}  // namespace ringtrain
