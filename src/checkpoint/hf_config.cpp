#include "ringtrain/checkpoint/hf_config.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "ringtrain/checkpoint/file.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// A JSON object of a file, read key by key with errors that name both.
class Section {
 public:
  Section(std::string where, const json& object) : where_(std::move(where)), object_(object) {}

  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  const json& operator[](const char* key) const { return object_[key]; }

  std::int64_t required_size(const char* key) const {
    if (!has(key)) throw IoError(fmt::format("{} has no {}", where_, key));
    const std::int64_t value = integer(key, 0);
    if (value <= 0) throw IoError(fmt::format("{}: {}={} must be above 0", where_, key, value));
    return value;
  }
  std::int64_t integer(const char* key, std::int64_t otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_number_integer()) throw wrong(key, "a whole number");
    return object_[key].get<std::int64_t>();
  }
  double number(const char* key, double otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_number()) throw wrong(key, "a number");
    return object_[key].get<double>();
  }
  double required_number(const char* key) const {
    if (!has(key)) throw IoError(fmt::format("{} has no {}", where_, key));
    return number(key, 0);
  }
  bool boolean(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_boolean()) throw wrong(key, "true or false");
    return object_[key].get<bool>();
  }
  std::string text(const char* key, const std::string& otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_string()) throw wrong(key, "a string");
    return object_[key].get<std::string>();
  }
  /// Token ids may be a list of alternatives; the first counts.
  std::int64_t token(const char* key, std::int64_t otherwise) const {
    if (has(key) && object_[key].is_array() && !object_[key].empty() &&
        object_[key][0].is_number_integer()) {
      return object_[key][0].get<std::int64_t>();
    }
    return integer(key, otherwise);
  }
  InvalidArgument refuse(const std::string& cause) const {
    return InvalidArgument(fmt::format("{}: {}", where_, cause));
  }

 private:
  IoError wrong(const char* key, const char* expected) const {
    return IoError(
        fmt::format("{}: {} is {}, expected {}", where_, key, object_[key].dump(), expected));
  }

  std::string where_;
  const json& object_;
};

void refuse_what_is_not_llama(const Section& top) {
  if (const auto type = top.text("model_type", "llama"); type != "llama") {
    throw top.refuse(fmt::format("model_type is '{}', only 'llama' can be loaded", type));
  }
  if (top.has("architectures")) {
    const json& names = top["architectures"];
    if (names != json::array({"LlamaForCausalLM"})) {
      throw top.refuse(fmt::format(
          "architectures are {}, only [\"LlamaForCausalLM\"] can be loaded", names.dump()));
    }
  }
  for (const char* bias : {"attention_bias", "mlp_bias"}) {
    if (top.boolean(bias, false)) {
      throw top.refuse(fmt::format("{} is true; models with biases cannot be loaded", bias));
    }
  }
  if (const auto act = top.text("hidden_act", "silu"); act != "silu") {
    throw top.refuse(fmt::format("hidden_act is '{}', only 'silu' (SwiGLU) is computed", act));
  }
  if (top.has("quantization_config")) {
    throw top.refuse("quantised weights cannot be loaded; save the model in bf16, fp16 or fp32");
  }
  if (top.number("partial_rotary_factor", 1.0) != 1.0) {
    throw top.refuse("partial_rotary_factor must be 1");
  }
}

void read_rope_scaling(const Section& section, ModelConfig& config) {
  RopeScaling& scaling = config.rope_scaling;
  scaling.type = section.text("rope_type", section.text("type", "default"));
  if (scaling.type == "default") return;
  if (scaling.type != "linear" && scaling.type != "llama3") {
    throw section.refuse(fmt::format(
        "the RoPE type '{}' is not computed; one of default, linear, llama3", scaling.type));
  }
  scaling.factor = section.required_number("factor");
  if (scaling.type == "linear") return;
  scaling.low_freq_factor = section.required_number("low_freq_factor");
  scaling.high_freq_factor = section.required_number("high_freq_factor");
  scaling.original_max_position_embeddings =
      section.integer("original_max_position_embeddings", config.max_sequence_length);
}

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

ModelConfig read_hf_config(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "config.json";
  const json parsed = json::parse(read_text(path), nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) throw IoError(path.string() + " is not a JSON object");
  const Section top(path.string(), parsed);
  refuse_what_is_not_llama(top);

  ModelConfig config;
  config.vocab_size = top.required_size("vocab_size");
  config.hidden_size = top.required_size("hidden_size");
  config.intermediate_size = top.required_size("intermediate_size");
  config.num_hidden_layers = top.required_size("num_hidden_layers");
  config.num_attention_heads = top.required_size("num_attention_heads");
  config.num_key_value_heads = top.integer("num_key_value_heads", config.num_attention_heads);
  config.head_dim = top.integer("head_dim", config.hidden_size / config.num_attention_heads);
  config.max_sequence_length = top.integer("max_position_embeddings", 2048);
  config.rms_norm_eps = top.number("rms_norm_eps", 1e-6);
  config.initializer_range = top.number("initializer_range", 0.02);
  config.tie_word_embeddings = top.boolean("tie_word_embeddings", false);
  config.bos_token_id = top.token("bos_token_id", config.bos_token_id);
  config.eos_token_id = top.token("eos_token_id", config.eos_token_id);
  config.rope_theta = top.number("rope_theta", 10000.0);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {  // the newer one last: it wins
    if (!top.has(key)) continue;
    if (!top[key].is_object()) {
      throw IoError(fmt::format("{}: {} is not a JSON object", path.string(), key));
    }
    const Section rope(fmt::format("{}: {}", path.string(), key), top[key]);
    config.rope_theta = rope.number("rope_theta", config.rope_theta);
    read_rope_scaling(rope, config);
  }
  return config;
}

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
