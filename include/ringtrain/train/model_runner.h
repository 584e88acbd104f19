#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "ringtrain/config/train_config.h"
#include "ringtrain/data/batch.h"
#include "ringtrain/model/llama.h"

namespace ringtrain {

/// The model for batches of one shape, and the device memory such a batch is in. Training and
/// evaluation data may differ in shape; each has a runner over the same parameters.
class ModelRunner {
 public:
  /// Lays out everything in the context's arenas; the arguments must outlive this.
  /// Errors: InvalidArgument where the mesh does not cut `batch_size` x `seq_length` evenly.
  ModelRunner(Context& context, const TrainConfig& config, ShardedParameters& parameters,
              std::int64_t batch_size, std::int64_t seq_length);

  /// Copies this rank's part of a batch to the device; waits for the device only if both staging
  /// buffers are still being copied. Errors: InvalidArgument for another shape.
  void load(const LocalBatch& batch);
  /// See LlamaModel: forward and backward of the loaded batch.
  void train(Tensor totals) { model_.train_step(batch_, totals); }
  /// See LlamaModel: forward of the loaded batch.
  void evaluate(Tensor totals, Tensor logits = {}) { model_.evaluate(batch_, totals, logits); }

  /// The layouts that batches may be cut by; LocalBatch::layout counts them.
  const std::vector<SequenceLayout>& layouts() const { return layouts_; }
  /// Sequences of this rank.
  std::int64_t batch_rows() const { return batch_rows_; }

 private:
  // Host memory of one batch, and when its copy to the device is done.
  struct Staging {
    Tensor memory;
    std::unique_ptr<Event> copied;
  };

  Context& context_;
  std::int64_t batch_rows_;
  std::vector<SequenceLayout> layouts_;
  LlamaModel model_;
  DeviceBatch batch_;
  std::array<Staging, 2> staging_;
  std::size_t next_staging_ = 0;
};

}  // namespace ringtrain
