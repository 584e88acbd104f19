#pragma once

#include "ringtrain/config/model_config.h"
#include "ringtrain/parallel/parameter_table.h"

namespace ringtrain {

/// All tensors of a LLaMA model under their Hugging Face names: unit 0 is the embedding, units
/// 1 .. num_hidden_layers the layers, the last unit the final norm and, unless tied, the head.
ParameterTable make_llama_table(const ModelConfig& config, int tp_rank, int tp_size,
                                int num_shards);

/// One layer's matrices as views of its flat buffer: weights in the compute type, gradients fp32.
/// D hidden size; N, K, H, F heads, key/value heads, head_dim, feed-forward size of this tp rank.
struct LayerTensors {
  Tensor attention_norm;  ///< [D]
  Tensor wqkv;            ///< [(N + 2K) H, D]: query, key, value rows
  Tensor wo;              ///< [D, N H]
  Tensor ffn_norm;        ///< [D]
  Tensor w13;             ///< [2F, D]: gate rows, then up rows
  Tensor w2;              ///< [D, F]
};
/// `flat`: [unit.num_elements] of a layer's unit.
LayerTensors layer_tensors(const ParameterUnit& unit, Tensor flat);

/// Gradients of a layer (ShardedParameters::UnitGradient).
struct LayerGradients : LayerTensors {
  bool are_empty;  ///< matrices hold anything, norms zeros
};

/// A segment of a unit's flat buffer as a matrix or vector (its tp slice).
Tensor segment_view(const Segment& segment, Tensor flat);

/// Parameters of the model without padding: all of them, and those outside the embedding table
/// (a tied table counts as the head's matrix), which the FLOP formula uses.
struct ParameterCount {
  std::int64_t total;
  std::int64_t without_embedding;
};
ParameterCount count_parameters(const ModelConfig& config);

}  // namespace ringtrain
