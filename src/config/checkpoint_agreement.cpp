#include "checkpoint_agreement.h"

#include <fmt/format.h>

#include <array>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr std::array kSizes{"vocab_size",        "hidden_size",         "intermediate_size",
                            "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                            "head_dim",          "tie_word_embeddings"};
constexpr std::array kMathematics{"rms_norm_eps", "rope_theta", "rope_scaling"};

/// With the values that 0 stands for written out.
ModelConfig explicit_sizes(ModelConfig model) {
  model.num_key_value_heads = model.kv_heads();
  if (model.num_attention_heads > 0) model.head_dim = model.head_size();
  return model;
}

/// The user's own words, not what a preset brought along.
bool is_deliberate(const std::string& source) {
  return source.starts_with("file") || source.starts_with("command line") ||
         source.starts_with("update_llama_config");
}

}  // namespace

void agree_with_checkpoint(const TrainConfig& config, const ModelConfig& checkpoint,
                           const std::string& name, ConfigReport& report) {
  TrainConfig of_run, of_checkpoint;
  of_run.llama = explicit_sizes(config.llama);
  of_checkpoint.llama = explicit_sizes(checkpoint);
  const auto compare = [&](const std::string& key, bool may_differ) {
    const Option& option = *find_option("llama." + key);
    const std::string run = shown_value(option, of_run);
    const std::string there = shown_value(option, of_checkpoint);
    if (run == there) return;
    const auto found = report.sources.find(option.name);
    const std::string source = found == report.sources.end() ? "default" : found->second;
    const std::string both =
        fmt::format("{} is {} ({}), {} has {}", option.name, run, source, name, there);
    if (!may_differ || !is_deliberate(source)) {
      throw InvalidArgument(both +
                            "; leave out --load_llama_config to take the checkpoint's model");
    }
    report.notices.push_back(both);
  };
  for (const char* key : kSizes) compare(key, false);
  for (const char* key : kMathematics) compare(key, true);
}

}  // namespace ringtrain
