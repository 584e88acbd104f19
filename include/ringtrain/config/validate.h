#pragma once

#include <cstdint>
#include <string>

#include "ringtrain/config/options.h"

/// Checks of whole configurations, before anything is allocated. All throw InvalidArgument that
/// names the option, the value received and the values possible.
namespace ringtrain {

/// What the values say by themselves: ranges, the model's shape, the optimizer, and the settings
/// of the original that are refused here (dropout, forgetful causal masking, fp16, W&B).
void validate_config(Command command, const TrainConfig& config);

/// The model's shape alone; also for models that come from a checkpoint.
void validate_model(const ModelConfig& model);

/// A data set that a command is about to read; `name` is train_dataset or eval_dataset. Refuses
/// type=huggingface with the command that makes a jsonl file, and a sequence longer than the
/// model's max_sequence_length.
void validate_dataset(const std::string& name, const DatasetConfig& dataset,
                      const ModelConfig& model);

/// The same for a command that reads no data: its sizes alone.
void validate_dataset_shape(const std::string& name, const DatasetConfig& dataset,
                            const ModelConfig& model);

/// Sizes of the mesh axes, as plain numbers.
struct MeshSizes {
  std::int64_t dp, fsdp, tp, sp;
  std::int64_t ulysses = 1;  ///< of sp: ranks that exchange heads
};

/// What must divide what: heads, key/value heads and intermediate_size by tp; the query heads of a
/// tp rank by ulysses, and its key/value heads by ulysses or ulysses by them; the batch by
/// dp x fsdp; the sequence by sp, and for zigzag by twice the ring (auto takes zigzag or striped).
/// `sequences` and `batches` say in messages which options give the two sizes.
void validate_model_on_mesh(const ModelConfig& model, const MeshSizes& mesh);
void validate_batch_on_mesh(std::int64_t batch_size, std::int64_t seq_length,
                            const std::string& sp_layout, const MeshSizes& mesh,
                            const std::string& batches, const std::string& sequences);

/// Where the weights and the state of a run come from.
struct CheckpointSource {
  enum class Kind { kNone, kTrainState, kTrainStateParams, kParams };
  Kind kind = Kind::kNone;
  std::string path;
};

/// Reads load_checkpoint: "", params::HF_DIR, trainstate::DIR or trainstate_params::DIR.
/// flax_params:: and the original's MessagePack streams are refused by name.
CheckpointSource parse_load_checkpoint(const std::string& text);

}  // namespace ringtrain
