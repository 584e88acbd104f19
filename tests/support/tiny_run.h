#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ringtrain/config/train_config.h"
#include "ringtrain/data/batch.h"
#include "ringtrain/parallel/context.h"

namespace ringtrain {

/// A training run small enough to be repeated on every mesh: 4 heads of 12, batches of 4
/// sequences of 48 random tokens, three batches by turns.
struct TinyRun {
  std::string name;
  std::string dtype = "fp32";
  std::string layout = "auto";
  std::string sp_type = "ring";
  int ulysses_size = 0;
  Transport transport = Transport::kNccl;  ///< on GPUs
  std::string attention_type = "ring_blockwise";
  std::string remat_block{};
  std::string remat_attention{};
  std::string remat_mlp{};
  std::int64_t kv_heads = 4;
  bool tied = false;
  bool masked = false;  ///< tokens, a half sequence and a whole one without loss
  bool documents = false;
  int accumulate = 1;
  std::string optimizer = "adamw";
  std::string loss_reduction = "token";
  bool offload_optimizer = false;
  std::string grad_dtype = "fp32";
  std::int64_t layers = 3;
  std::uint64_t seed = 7;  ///< of the initial weights
};

/// The configuration of a run; chunk sizes divide nothing.
TrainConfig tiny_config(const TinyRun& run);
/// The batch of micro-step `step`.
GlobalBatch tiny_batch(const TinyRun& run, int step);

struct Curve {
  std::vector<double> losses;       ///< of every micro-step
  std::vector<double> norms;        ///< of the gradient of every update
  std::vector<double> param_norms;  ///< of all parameters after every update
};
/// Collective over the mesh of `context`. Where a run has several layouts, they take turns.
Curve run_tiny(Context& context, const TinyRun& run, int steps);

}  // namespace ringtrain
