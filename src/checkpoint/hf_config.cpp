#include "ringtrain/checkpoint/hf_config.h"

#include <nlohmann/json.hpp>

namespace ringtrain {
namespace {

using nlohmann::ordered_json;

ordered_json rope_scaling_json(const RopeScaling& scaling) {
  ordered_json rope{{"rope_type", scaling.type}};
  if (scaling.type != "default") rope["factor"] = scaling.factor;
  if (scaling.type == "llama3") {
    rope["low_freq_factor"] = scaling.low_freq_factor;
    rope["high_freq_factor"] = scaling.high_freq_factor;
    rope["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  }
  return rope;
}

const char* torch_name_of(DType dtype) {
  switch (dtype) {
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
    default:
      return "float32";
  }
}

}  // namespace

std::string hf_config_text(const ModelConfig& config, DType dtype) {
  const bool scaled = config.rope_scaling.type != "default";
  ordered_json rope_parameters = rope_scaling_json(config.rope_scaling);
  rope_parameters["rope_theta"] = config.rope_theta;
  const ordered_json text{
      {"architectures", ordered_json::array({"LlamaForCausalLM"})},
      {"model_type", "llama"},
      {"vocab_size", config.vocab_size},
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.intermediate_size},
      {"num_hidden_layers", config.num_hidden_layers},
      {"num_attention_heads", config.num_attention_heads},
      {"num_key_value_heads", config.kv_heads()},
      {"head_dim", config.head_size()},
      {"max_position_embeddings", config.max_sequence_length},
      {"rms_norm_eps", config.rms_norm_eps},
      {"initializer_range", config.initializer_range},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"rope_theta", config.rope_theta},
      {"rope_scaling", scaled ? rope_scaling_json(config.rope_scaling) : ordered_json()},
      {"rope_parameters", rope_parameters},
      {"hidden_act", "silu"},
      {"attention_bias", false},
      {"attention_dropout", 0.0},
      {"mlp_bias", false},
      {"pretraining_tp", 1},
      {"use_cache", true},
      {"bos_token_id", config.bos_token_id},
      {"eos_token_id", config.eos_token_id},
      {"torch_dtype", torch_name_of(dtype)},
      {"dtype", torch_name_of(dtype)}};
  return text.dump(2) + "\n";
}

std::string hf_generation_config_text(const ModelConfig& config) {
  const ordered_json text{{"_from_model_config", true},
                          {"bos_token_id", config.bos_token_id},
                          {"eos_token_id", config.eos_token_id}};
  return text.dump(2) + "\n";
}

}  // namespace ringtrain
