#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "ringtrain/config/train_config.h"
#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/parameter_table.h"
#include "ringtrain/parallel/shard_pass.h"

namespace ringtrain {

/// Updates this rank's shards of the masters from its shards of the gradients, after clipping by
/// the global norm over all ranks. Replicas (dp) compute the same update each.
///
///   adamw                                AdamW with decoupled decay (arXiv:1711.05101), eps 1e-8
///   adamw, multiply_by_parameter_scale   Adafactor without factoring (arXiv:1804.04235), decay
///                                        rate b2, plus learning rate * weight_decay * parameter
///   palm                                 the same with the PaLM schedule (arXiv:2204.02311) and
///                                        weight_decay / 1e-4 * rate^2 * parameter
///
/// Weight decay is on every parameter, as in the original.
class Optimizer {
 public:
  /// Allocates the moments (fp32; m bf16 with bf16_momentum) from the arena, or from host memory
  /// with `moments_on_host`, and zeroes them.
  /// `table` and `context` must outlive this. Errors: InvalidArgument (check_optimizer).
  Optimizer(const OptimizerConfig& config, const ParameterTable& table, Context& context,
            bool moments_on_host = false);

  /// One update. `gradients` are sums (already reduced over all ranks that share the shard);
  /// divided by `denominator`, tokens or micro-steps, they are the gradient of the loss. Enqueues
  /// on `stream` and returns: the host is not synchronised. Gradients are fp32 or bf16. `weights`
  /// holds a tensor per unit, or is empty: the new master is also rounded into those that are
  /// present. Collective over mesh.param and mesh.tp.
  void update(const ShardFamily& masters, const ShardFamily& gradients, double denominator,
              Stream& stream, const std::vector<Tensor>& weights = {});

  /// [2] fp32 on the device, of the last update (zero before the first): the gradient norm before
  /// clipping, and the factor that the summed gradients were multiplied with.
  Tensor gradient_norm() const { return clip_; }
  /// [2] fp32 on the device, element 0 is the norm of all parameters; valid until the next call.
  /// Collective like `update`.
  Tensor parameter_norm(const ShardFamily& masters, Stream& stream);

  /// Rate that the next update will use.
  double learning_rate() const;
  /// Replaces the schedule for all updates from now on.
  void fix_learning_rate(double rate) { fixed_rate_ = rate; }
  std::int64_t num_updates() const { return num_updates_; }

  /// For checkpoints: the moments "m" and "v"; a restored optimizer also gets its counter back.
  std::vector<ShardFamily> state() const { return {m_, v_}; }
  void set_num_updates(std::int64_t num_updates) { num_updates_ = num_updates; }

 private:
  /// The part of the configuration that both types share.
  struct Rule {
    bool adafactor;
    double b1, b2, clip_gradient, weight_decay;
    bool bf16_momentum;
  };
  static Rule rule_of(const OptimizerConfig& config);

  ShardFamily make_moments(const char* name, DType dtype, bool on_host);
  void upload_ranges();
  /// One unit's part of an update. `gradient` is fp32.
  void update_unit(std::size_t unit, Tensor master, Tensor gradient, Tensor m, Tensor v,
                   Tensor weights, double rate, Stream& stream);
  /// `shard` in fp32, in the innermost scope of the arena where it is not.
  Tensor in_fp32(Tensor shard, Stream& stream);
  /// sums = squared norm of every tensor of the model, over all ranks.
  void sum_of_squares(const ShardFamily& values, Tensor sums, Stream& stream);
  /// Adafactor's decay, with the rate in it.
  double decay_of_step(double rate) const;

  OptimizerConfig config_;
  Rule rule_;
  const ParameterTable& table_;
  Context& context_;
  ShardPass pass_;
  ShardFamily m_;
  ShardFamily v_;
  std::vector<Tensor> ranges_;  ///< per unit [R, 4] int64 (SumOfSquaresArgs); absent where R = 0
  Tensor counts_;               ///< [tensors] fp64: elements of each whole tensor
  Tensor gradient_sums_;        ///< [tensors] fp64
  Tensor parameter_sums_;       ///< [tensors] fp64
  Tensor clip_;
  Tensor parameter_norm_;
  std::int64_t num_updates_ = 0;
  std::optional<double> fixed_rate_;
};

}  // namespace ringtrain
