#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "ringtrain/comm/world.h"
#include "ringtrain/config/train_config.h"

namespace ringtrain {

/// Error of one quantity, over all ranks.
struct ReferenceError {
  std::string name;             ///< "logits", "loss", "grad model.norm.weight", "train.loss"
  double largest_absolute = 0;  ///< largest |actual - expected|
  double relative = 0;          ///< ||actual - expected|| / ||expected||
  double tolerance = 0;         ///< what `relative` may be at most
  bool passes() const { return relative <= tolerance; }  // false for NaN
};

struct ReferenceTolerances {
  double tolerance = 1e-4;        ///< logits, loss, accuracy and gradients
  double train_tolerance = 1e-3;  ///< losses of the training run and what it arrives at
};

/// Compares the model in `config.load_checkpoint` (params::DIR) with the answers of another program
/// in `reference`: a safetensors file with input_tokens, target_tokens, loss_masks [B, S], logits
/// [B, S, V], loss and accuracy (mean over rows of masked means) and grad.NAME for every
/// parameter; and, where it has them, train.loss, train.gradient_norm and train.learning_rate [n]
/// with train.param.NAME of n AdamW steps on that batch (clip 1.0, betas 0.9 and 0.95, eps 1e-8,
/// decay 0.1). See scripts/make_reference.py.
///
/// It runs the training code on whatever mesh and device `config` names. An object, so that devices
/// outlive the run_job around `run` (comm/job.h).
class ReferenceCheck {
 public:
  ReferenceCheck(World& world, TrainConfig config, std::filesystem::path reference,
                 ReferenceTolerances tolerances);
  ~ReferenceCheck();
  ReferenceCheck(const ReferenceCheck&) = delete;
  ReferenceCheck& operator=(const ReferenceCheck&) = delete;

  /// Collective; every rank returns the same. Errors: IoError for files that are damaged or do not
  /// fit; all of a run's.
  std::vector<ReferenceError> run();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringtrain
