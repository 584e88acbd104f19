#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "ringtrain/config/train_config.h"
#include "ringtrain/optim/optimizer.h"
#include "ringtrain/train/model_runner.h"

namespace ringtrain {

/// What an engine will be asked to do; memory is laid out for that and nothing else.
struct EngineJobs {
  bool train = true;
  bool evaluate = false;
};

/// Parameters, optimizer and models of one rank, and the steps they take. Every method is called
/// by all ranks in the same order; none waits for the device unless it says so.
class Engine {
 public:
  /// Lays out everything in the context's arena. Errors: InvalidArgument for shapes that the mesh
  /// cannot cut.
  Engine(Context& context, const TrainConfig& config, EngineJobs jobs);

  /// The memory rehearsal: one of each step, for the meta device.
  void rehearse();

  /// Forward and backward of a training batch: adds to the gradients and to the totals.
  void train(const LocalBatch& batch);
  /// Forward of an evaluation batch: adds to the totals. Logits as in LlamaModel::evaluate.
  void evaluate(const LocalBatch& batch, Tensor logits = {});
  /// One optimizer update with the gradients so far, which stand for `denominator` tokens (or
  /// rows); then gradients start from zero again.
  void update(double denominator);

  void zero_totals();
  /// Sums over the mesh's batches since zero_totals.
  struct Totals {
    double loss;     ///< of weight * loss
    double correct;  ///< of weight * (prediction == target)
  };
  /// Collective; waits for the device.
  Totals read_totals();

  /// Norm of the gradient at the last update, before clipping. Waits for the device.
  double read_gradient_norm();
  /// Norm of all parameters. Collective; waits for the device.
  double read_param_norm();

  const ParameterTable& table() const { return table_; }
  ShardedParameters& parameters() { return parameters_; }
  /// Errors: std::bad_optional_access without EngineJobs::train.
  Optimizer& optimizer() { return optimizer_.value(); }
  ModelRunner& trainer() { return *train_runner_; }
  ModelRunner& evaluator() { return *eval_runner_; }

 private:
  void read(Tensor tensor, void* host);

  Context& context_;
  ParameterTable table_;
  ShardedParameters parameters_;
  std::optional<Optimizer> optimizer_;
  std::unique_ptr<ModelRunner> train_runner_;
  std::unique_ptr<ModelRunner> eval_runner_;
  Tensor totals_;  // [2] fp64: of this rank
  Tensor sums_;    // [2] fp64: over the mesh
};

}  // namespace ringtrain
