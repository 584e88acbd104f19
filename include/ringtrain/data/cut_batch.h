#pragma once

#include <cstdint>
#include <string_view>

#include "ringtrain/data/batch.h"
#include "ringtrain/parallel/sequence_layout.h"

namespace ringtrain {

/// What the loss is a mean of.
enum class LossReduction {
  kToken,    ///< valid tokens of the whole batch
  kSequence  ///< rows, each the mean of its valid tokens (the original's)
};

/// "token" or "sequence". Errors: InvalidArgument naming --loss_reduction.
LossReduction parse_loss_reduction(std::string_view name);

struct CutOptions {
  LossReduction loss_reduction = LossReduction::kToken;
  bool documents = false;  ///< packing=documents: fill LocalBatch::document_starts
};

/// The part of rank `sp_rank` and batch shard `shard` of `num_shards`: rows
/// [shard, shard + 1) x batch_size / num_shards, and of each row the tokens at layout.positions;
/// document starts also of the other ranks of its ulysses group.
///
/// Inputs and targets were shifted before, so no target is lost at a cut. Weights are the masks
/// (kToken), or mask / max(valid tokens of the row, 1e-10) (kSequence); the denominator is that of
/// the whole batch: its valid tokens, or its rows. It is 0 for a batch without a valid token
/// under kToken, so that it adds nothing to an accumulated one; whoever divides guards.
///
/// Errors: InvalidArgument if num_shards does not divide the batch, or the layout is for another
/// sequence length.
LocalBatch cut_batch(const GlobalBatch& batch, const SequenceLayout& layout, int shard,
                     int num_shards, int sp_rank, const CutOptions& options);

/// Errors: InvalidArgument if a token id of the batch is not below `vocab_size`, naming the id.
void check_token_ids(const GlobalBatch& batch, std::int64_t vocab_size);

}  // namespace ringtrain
