#include "ringtrain/config/model_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "option_value.h"
#include "ringtrain/config/literal.h"
#include "ringtrain/config/suggestion.h"
#include "ringtrain/config/validate.h"
#include "ringtrain/core/error.h"
#include "settings.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;

/// Keys of a Hugging Face config.json whose value must be the one that LLaMA has.
const std::vector<std::pair<std::string, Json>>& required_values() {
  static const std::vector<std::pair<std::string, Json>> values{
      {"model_type", "llama"},
      {"architectures", Json::array({"LlamaForCausalLM"})},
      {"hidden_act", "silu"},
      {"attention_bias", false},
      {"mlp_bias", false},
      {"attention_dropout", 0.0},
      {"partial_rotary_factor", 1.0},
      {"sliding_window", nullptr},
      {"quantization_config", nullptr}};
  return values;
}

/// Keys that say nothing about the mathematics.
constexpr std::array<std::string_view, 8> kIndifferent{
    "torch_dtype",  "dtype",          "transformers_version", "use_cache",
    "pad_token_id", "pretraining_tp", "_name_or_path",        "rope_interleaved"};

/// Keys that a Hugging Face file must hold: 7b's sizes would not do for another model.
constexpr std::array<const char*, 5> kRequiredSizes{
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"};

std::vector<std::string> model_keys() {
  std::vector<std::string> keys;
  for (const Option& option : options()) {
    if (option.name.starts_with("llama.")) keys.push_back(option.name.substr(6));
  }
  return keys;
}

bool is_hugging_face(const Json& model) {
  return model.contains("model_type") || model.contains("architectures");
}

/// Collects settings; every key is looked up under "llama.".
class ModelReader {
 public:
  explicit ModelReader(std::string source) : source_(std::move(source)) {}

  /// False if `key` is no key of ours.
  bool add(const std::string& key, Json value) {
    const Option* option = find_option("llama." + key);
    if (option == nullptr) return false;
    settings_.push_back({option, key, std::move(value), source_});
    return true;
  }

  void add_strictly(const std::string& key, const Json& value) {
    if (add(key, value)) return;
    throw InvalidArgument(
        fmt::format("unknown model key '{}'{}", key, did_you_mean(key, model_keys())));
  }

  /// True if `key` is one of Hugging Face's names for something that has another name here.
  bool add_alias(const std::string& key, const Json& value) {
    if (key == "max_position_embeddings") return add("max_sequence_length", value);
    if (key != "rope_parameters" && key != "rope_scaling") return false;
    Json scaling = value;
    if (scaling.is_object() && scaling.contains("rope_theta")) {
      add("rope_theta", scaling["rope_theta"]);
      scaling.erase("rope_theta");
    }
    return add("rope_scaling", scaling);
  }

  void add_hugging_face(const std::string& key, const Json& value,
                        std::vector<std::string>& unused) {
    for (const auto& [required, expected] : required_values()) {
      if (key != required) continue;
      if (value.is_null() || value == expected) return;
      throw InvalidArgument(fmt::format("{} {} is not supported; only {} is", key, value.dump(),
                                        expected.is_null() ? "its absence" : expected.dump()));
    }
    // Absent and null mean the default, in every field of such a file.
    if (value.is_null()) return;
    if (std::find(kIndifferent.begin(), kIndifferent.end(), key) != kIndifferent.end()) return;
    // Several end tokens are a matter of generation; the first ends a document.
    const bool several = (key == "eos_token_id" || key == "bos_token_id") && value.is_array();
    if (add_alias(key, value)) return;
    if (!add(key, several && !value.empty() ? value[0] : value)) unused.push_back(key);
  }

  std::vector<Setting> take() { return std::move(settings_); }

 private:
  std::string source_;
  std::vector<Setting> settings_;
};

}  // namespace

std::vector<Setting> settings_of_model(const Json& model, const std::string& source,
                                       std::vector<std::string>& notices) {
  ModelReader reader(source);
  if (!is_hugging_face(model)) {
    for (const auto& [key, value] : model.items()) {
      if (!reader.add_alias(key, value)) reader.add_strictly(key, value);
    }
    return reader.take();
  }
  std::vector<std::string> unused;
  for (const auto& [key, value] : model.items()) reader.add_hugging_face(key, value, unused);
  for (const char* key : kRequiredSizes) {
    if (!model.contains(key) || model[key].is_null()) {
      throw InvalidArgument(fmt::format("the file has no {}", key));
    }
  }
  if (!unused.empty()) {
    notices.push_back(fmt::format("{}: keys not used: {}", source, fmt::join(unused, ", ")));
  }
  return reader.take();
}

std::vector<Setting> settings_of_update(const std::string& text, const std::string& source) {
  return with_context("reading update_llama_config", [&] {
    const Json update = parse_literal(text);
    if (!update.is_object()) {
      throw InvalidArgument(fmt::format("expected dict(key=value,...), got {}", text));
    }
    ModelReader reader(source);
    for (const auto& [key, value] : update.items()) reader.add_strictly(key, value);
    return reader.take();
  });
}

ModelConfig read_model_config(const std::filesystem::path& file) {
  TrainConfig config;
  std::vector<std::string> notices;
  with_context("reading " + file.string(), [&] {
    for (const Setting& setting : settings_of_model(read_json_object(file), "the model", notices)) {
      set_value(*setting.option, setting.name, setting.value, config);
    }
    validate_model(config.llama);
  });
  return config.llama;
}

}  // namespace ringtrain
