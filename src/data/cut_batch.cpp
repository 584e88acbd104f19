#include "ringtrain/data/cut_batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr double kTiny = 1e-10;  // the original's guard for rows without a valid token

double count_valid(std::span<const float> masks) {
  return std::accumulate(masks.begin(), masks.end(), 0.0);
}

void check_cut(const GlobalBatch& batch, const SequenceLayout& layout, int num_shards) {
  if (batch.batch_size % num_shards != 0) {
    throw InvalidArgument(
        fmt::format("json_dataset.batch_size {} is not divisible by dp x fsdp = {} (--mesh_dim); "
                    "it counts the sequences of the whole mesh",
                    batch.batch_size, num_shards));
  }
  if (batch.seq_length != layout.seq_length()) {
    throw InvalidArgument(
        fmt::format("the batch has seq_length {}, the sequence layout was made for {}",
                    batch.seq_length, layout.seq_length()));
  }
}

}  // namespace

LossReduction parse_loss_reduction(std::string_view name) {
  if (name == "token") return LossReduction::kToken;
  if (name == "sequence") return LossReduction::kSequence;
  throw InvalidArgument(fmt::format("--loss_reduction must be token or sequence, got '{}'", name));
}

LocalBatch cut_batch(const GlobalBatch& batch, const SequenceLayout& layout, int shard,
                     int num_shards, int sp_rank, const CutOptions& options) {
  check_cut(batch, layout, num_shards);
  const std::vector<std::int32_t> positions = layout.positions(sp_rank);
  LocalBatch local;
  local.rows = batch.batch_size / num_shards;
  local.tokens = static_cast<std::int64_t>(positions.size());
  local.layout = batch.layout;
  local.state_after = batch.state_after;
  local.metrics = batch.metrics;
  local.denominator = options.loss_reduction == LossReduction::kToken
                          ? count_valid(batch.loss_masks)
                          : static_cast<double>(batch.batch_size);

  const auto size = static_cast<std::size_t>(local.rows * local.tokens);
  local.inputs.reserve(size);
  local.targets.reserve(size);
  local.weights.reserve(size);
  std::vector<std::int32_t> group_positions;
  if (options.documents) group_positions = layout.group_positions(layout.group_of(sp_rank));
  local.document_starts.reserve(static_cast<std::size_t>(local.rows) * group_positions.size());
  for (std::int64_t i = 0; i < local.rows; ++i) {
    const auto row = static_cast<std::size_t>((shard * local.rows + i) * batch.seq_length);
    double divisor = 1.0;
    if (options.loss_reduction == LossReduction::kSequence) {
      divisor = std::max(
          count_valid(
              std::span(batch.loss_masks).subspan(row, static_cast<std::size_t>(batch.seq_length))),
          kTiny);
    }
    for (const std::int32_t position : positions) {
      const std::size_t at = row + static_cast<std::size_t>(position);
      local.inputs.push_back(batch.inputs[at]);
      local.targets.push_back(batch.targets[at]);
      local.weights.push_back(static_cast<float>(batch.loss_masks[at] / divisor));
    }
    for (const std::int32_t position : group_positions) {
      local.document_starts.push_back(
          batch.document_starts[row + static_cast<std::size_t>(position)]);
    }
  }
  return local;
}

void check_token_ids(const GlobalBatch& batch, std::int64_t vocab_size) {
  for (const auto* ids : {&batch.inputs, &batch.targets}) {
    for (const std::int32_t id : *ids) {
      if (id >= 0 && id < vocab_size) continue;
      throw InvalidArgument(
          fmt::format("the data holds token id {}, the model's vocabulary has {} entries "
                      "(llama.vocab_size): the tokenizer (--tokenizer.vocab_file) is not the one "
                      "the model was made for",
                      id, vocab_size));
    }
  }
}

}  // namespace ringtrain
