#include "ringtrain/config/checkpoint_agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "option_value.h"
#include "ringtrain/config/model_file.h"
#include "ringtrain/core/error.h"
#include "settings.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kSizes{"vocab_size",        "hidden_size",         "intermediate_size",
                            "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                            "head_dim",          "tie_word_embeddings"};
constexpr std::array kMathematics{"rms_norm_eps", "rope_theta", "rope_scaling"};

/// With the values that 0 stands for written out, and without those that the rope type ignores.
ModelConfig explicit_model(ModelConfig model) {
  model.num_key_value_heads = model.kv_heads();
  if (model.num_attention_heads > 0) model.head_dim = model.head_size();
  RopeScaling& scaling = model.rope_scaling;
  if (scaling.type == "default") scaling = {};
  if (scaling.type == "linear") scaling = {.type = scaling.type, .factor = scaling.factor};
  return model;
}

/// The user's own words, not what a preset brought along.
bool is_deliberate(const std::string& source) {
  return source.starts_with("file") || source.starts_with("command line") ||
         source.starts_with("update_llama_config");
}

std::string source_of(const std::string& name, const ConfigReport& report) {
  const auto found = report.sources.find(name);
  return found == report.sources.end() ? "default" : found->second;
}

/// What changes the loss or an update, beside the model and the learning rate.
std::vector<const Option*> training_options(const OptimizerConfig& optimizer) {
  std::vector<const Option*> found{find_option("packing"), find_option("loss_reduction"),
                                   find_option("optimizer.accumulate_gradient_steps")};
  for (const char* key : {"b1", "b2", "clip_gradient", "weight_decay", "bf16_momentum",
                          "multiply_by_parameter_scale"}) {
    const auto name = fmt::format("optimizer.{}_optimizer.{}", optimizer.type, key);
    if (const Option* option = find_option(name)) found.push_back(option);
  }
  return found;
}

/// Of "optimizer.type" in a nested object.
Json::json_pointer place_of(const Option& option) {
  std::string place = "/" + option.name;
  std::replace(place.begin(), place.end(), '.', '/');
  return Json::json_pointer(place);
}

}  // namespace

void agree_with_checkpoint(const TrainConfig& config, const std::filesystem::path& directory,
                           Loading loading, ConfigReport& report) {
  TrainConfig of_run, of_checkpoint;
  of_run.llama = explicit_model(config.llama);
  of_checkpoint.llama = explicit_model(read_model_config(directory / "config.json"));
  const auto compare = [&](const std::string& key, bool may_differ) {
    const Option& option = *find_option("llama." + key);
    const std::string run = shown_value(option, of_run);
    const std::string there = shown_value(option, of_checkpoint);
    if (run == there) return;
    const std::string source = source_of(option.name, report);
    const std::string both = fmt::format("{} is {} ({}), checkpoint {} has {}", option.name, run,
                                         source, directory.string(), there);
    if (!may_differ || !is_deliberate(source)) {
      throw InvalidArgument(
          both + (loading == Loading::kParameters
                      ? "; leave out --load_llama_config to take the checkpoint's model"
                      : "; a train state goes on with the model that it was saved with"));
    }
    report.notices.push_back(both);
  };
  for (const char* key : kSizes) compare(key, false);
  for (const char* key : kMathematics) compare(key, loading == Loading::kParameters);
}

void notice_changed_training(const TrainConfig& config, const std::filesystem::path& directory,
                             ConfigReport& report) {
  const std::filesystem::path file = directory / "config.resolved.json";
  if (!std::filesystem::exists(file)) return;
  with_context("reading " + file.string(), [&] {
    const Json settings = read_json_object(file);
    TrainConfig saved;
    for (const Option* option : training_options(config.optimizer)) {
      const Json::json_pointer place = place_of(*option);
      if (!settings.contains(place)) continue;
      set_value(*option, option->name, settings[place], saved);
      const std::string now = shown_value(*option, config);
      const std::string before = shown_value(*option, saved);
      if (now == before) continue;
      report.notices.push_back(fmt::format("{} is {} ({}), checkpoint {} was trained with {}",
                                           option->name, now, source_of(option->name, report),
                                           directory.string(), before));
    }
  });
}

}  // namespace ringtrain
