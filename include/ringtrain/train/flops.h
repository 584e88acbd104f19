#pragma once

#include <cstdint>
#include <span>

#include "ringtrain/config/model_config.h"

/// Model FLOPs: what the mathematics of a training step needs, forward and backward, however it is
/// computed. Recomputation earns no credit; causal attention counts once.
namespace ringtrain {

/// Keys that a token attends to on average: seq_length / 2 for one causal document a row, less
/// where rows hold several. `document_starts` [rows, seq_length] is where each token's document
/// begins in its row (GlobalBatch::document_starts); empty for one document a row.
double mean_attended_keys(std::span<const std::int32_t> document_starts, std::int64_t seq_length);

/// 6 x (weights that multiply every token: all but the embedding, the head also where tied)
/// + 12 x attended_keys x heads x head_dim x layers: two products forward (q.k and p.v), twice
/// that backward. With attended_keys = S / 2 this is 6 N + 6 S x hidden x layers.
double model_flops_per_token(const ModelConfig& config, double attended_keys);

}  // namespace ringtrain
