#include "ringtrain/model/llama_parameters.h"

#include <fmt/format.h>

namespace ringtrain {

ParameterTable make_llama_table(const ModelConfig& config, int tp_rank, int tp_size,
                                int num_shards) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t query = config.num_attention_heads * config.head_size();
  const std::int64_t key_value = config.kv_heads() * config.head_size();
  const std::int64_t ffn = config.intermediate_size;

  ParameterTable table(tp_rank, tp_size, num_shards);
  table.begin_unit("embedding");
  table.add("model.embed_tokens.weight", {config.vocab_size, hidden}, TpSplit::kRows);
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto name = [&](const char* tensor) {
      return fmt::format("model.layers.{}.{}.weight", i, tensor);
    };
    table.begin_unit(fmt::format("layer {}", i));
    table.add(name("input_layernorm"), {hidden}, TpSplit::kReplicated, /*is_norm=*/true);
    table.add(name("self_attn.q_proj"), {query, hidden}, TpSplit::kRows);
    table.add(name("self_attn.k_proj"), {key_value, hidden}, TpSplit::kRows, false,
              /*follows=*/true);
    table.add(name("self_attn.v_proj"), {key_value, hidden}, TpSplit::kRows, false,
              /*follows=*/true);
    table.add(name("self_attn.o_proj"), {hidden, query}, TpSplit::kColumns);
    table.add(name("post_attention_layernorm"), {hidden}, TpSplit::kReplicated, /*is_norm=*/true);
    table.add(name("mlp.gate_proj"), {ffn, hidden}, TpSplit::kRows);
    table.add(name("mlp.up_proj"), {ffn, hidden}, TpSplit::kRows, false, /*follows=*/true);
    table.add(name("mlp.down_proj"), {hidden, ffn}, TpSplit::kColumns);
  }
  table.begin_unit("head");
  table.add("model.norm.weight", {hidden}, TpSplit::kReplicated, /*is_norm=*/true);
  if (!config.tie_word_embeddings) {
    table.add("lm_head.weight", {config.vocab_size, hidden}, TpSplit::kRows);
  }
  table.finish();
  return table;
}

Tensor segment_view(const Segment& segment, Tensor flat) {
  return flat.view(segment.offset, segment.local_shape);
}

namespace {

// Segments `first` and the ones packed behind it as one matrix.
Tensor joined_view(const Segment& first, std::int64_t rows, Tensor flat) {
  return flat.view(first.offset, {rows, first.local_shape[1]});
}

}  // namespace

LayerTensors layer_tensors(const ParameterUnit& unit, Tensor flat) {
  // In the order in which make_llama_table adds them.
  const std::vector<Segment>& s = unit.segments;
  const std::int64_t qkv_rows = s[1].local_shape[0] + s[2].local_shape[0] + s[3].local_shape[0];
  const std::int64_t gate_up_rows = s[6].local_shape[0] + s[7].local_shape[0];
  return {
      segment_view(s[0], flat), joined_view(s[1], qkv_rows, flat),     segment_view(s[4], flat),
      segment_view(s[5], flat), joined_view(s[6], gate_up_rows, flat), segment_view(s[8], flat)};
}

ParameterCount count_parameters(const ModelConfig& config) {
  const ParameterTable table = make_llama_table(config, 0, 1, 1);
  ParameterCount count{0, 0};
  for (const ParameterUnit& unit : table.units()) {
    for (const Segment& segment : unit.segments) count.total += segment.shape.num_elements();
  }
  count.without_embedding = count.total;
  if (!config.tie_word_embeddings) {
    count.without_embedding -= config.vocab_size * config.hidden_size;
  }
  return count;
}

}  // namespace ringtrain
