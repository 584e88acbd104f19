#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ringtrain/comm/world.h"
#include "ringtrain/config/train_config.h"
#include "ringtrain/data/batch_feeder.h"
#include "ringtrain/data/tokenizer.h"

namespace ringtrain {

/// Collective: loads the tokenizer on rank 0 (nullptr elsewhere) and fits the model to it on every
/// rank: its BOS and EOS ids, and its vocabulary where the model's is smaller and not `fixed`
/// (given by a checkpoint). Returns a line for the banner if the vocabulary grew, else "".
/// Errors: those of Tokenizer and check_vocabulary.
struct FittedTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string notice;
};
FittedTokenizer fit_tokenizer(World& world, const TokenizerConfig& config, bool fixed,
                              ModelConfig& model);

/// Collective: starts reading a data set for the ranks of a mesh. `name` is train_dataset or
/// eval_dataset; `resume_state` is GlobalBatch::state_after of the batch before, or empty. The
/// metrics of each batch gain "attended_keys", the keys a token sees on average, "sp_layout", how
/// it is cut, and "attention_imbalance" (AttentionBalance).
std::unique_ptr<BatchFeeder> start_feeder(World& world, const std::string& name,
                                          const DatasetConfig& dataset, const TrainConfig& config,
                                          std::shared_ptr<const Tokenizer> tokenizer,
                                          const MeshShape& mesh, const std::string& resume_state);

}  // namespace ringtrain
