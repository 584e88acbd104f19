#include "ringtrain/config/resolve.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "mesh_agreement.h"
#include "option_value.h"
#include "ringtrain/config/checkpoint_agreement.h"
#include "ringtrain/config/presets.h"
#include "ringtrain/config/suggestion.h"
#include "ringtrain/config/validate.h"
#include "ringtrain/core/error.h"
#include "settings.h"

namespace ringtrain {
namespace {

constexpr const char* kCommandLine = "command line";

std::vector<Setting> settings_of_command_line(Command command,
                                              const std::vector<Assignment>& assignments) {
  std::vector<Setting> settings;
  for (const auto& [name, text] : assignments) {
    const Option* option = find_option(name);
    if (option == nullptr || !option->taken_by(command)) {
      throw InvalidArgument(
          fmt::format("unknown option --{}{}", name, did_you_mean(name, option_names(command))));
    }
    settings.push_back({option, "--" + name, value_from_text(*option, text), kCommandLine});
  }
  return settings;
}

std::vector<Setting> settings_of_files(Command command, const std::vector<std::string>& files) {
  std::vector<Setting> settings;
  for (const std::string& file : files) {
    for (Setting& setting : settings_of_file(file)) {
      if (setting.option->taken_by(command)) settings.push_back(std::move(setting));
    }
  }
  return settings;
}

class Resolver {
 public:
  Resolver(Command command, const FindSave& newest_save)
      : command_(command), newest_save_(newest_save), config_(default_config(command)) {}

  void apply(const std::vector<Setting>& settings) {
    for (const Setting& setting : settings) {
      const auto set = [&] { set_value(*setting.option, setting.name, setting.value, config_); };
      if (setting.source == kCommandLine) {
        set();
      } else {
        with_context("reading " + setting.source, set);
      }
      report_.sources[setting.option->name] = setting.source;
      if (!setting.option->has_meaning) without_meaning_.insert(setting.option->name);
    }
  }

  /// The model that others build on, found by what the later settings say about it.
  void apply_base_model(const std::vector<Setting>& files, const std::vector<Setting>& flags) {
    const std::string preset = last_text("load_llama_config", files, flags);
    const CheckpointSource checkpoint = known_source(last_text("load_checkpoint", files, flags));
    constexpr std::string_view kJson = "json::";
    if (preset == kJson) {
      throw InvalidArgument("load_llama_config 'json::' names no file");
    } else if (preset.starts_with(kJson)) {
      apply_model_file(preset.substr(kJson.size()), "json::" + preset.substr(kJson.size()));
    } else if (!preset.empty()) {
      const Preset& found = find_preset(preset);
      apply(settings_of_model(parse_json(std::string(found.json)), "preset " + preset,
                              report_.notices));
    } else if (checkpoint.kind != CheckpointSource::Kind::kNone) {
      const std::filesystem::path directory = model_directory(checkpoint);
      apply_model_file(directory / "config.json", "checkpoint " + directory.string());
    }
  }

  /// update_llama_config counts with the source that gave it.
  void apply_update(const std::string& wanted_source_prefix) {
    const auto source = report_.sources.find("update_llama_config");
    if (source == report_.sources.end() || config_.update_llama_config.empty()) return;
    if (!source->second.starts_with(wanted_source_prefix)) return;
    apply(settings_of_update(config_.update_llama_config,
                             "update_llama_config of the " + source->second));
  }

  ResolvedConfig finish() {
    agree_on_mesh(config_, report_);
    choose_dataset_type(config_.train_dataset, "train_dataset");
    choose_dataset_type(config_.eval_dataset, "eval_dataset");
    choose_attention();
    agree_on_parameters();
    if (!without_meaning_.empty()) {
      report_.notices.push_back(
          fmt::format("accepted, no meaning here: {}", fmt::join(without_meaning_, ", ")));
    }
    return {std::move(config_), std::move(report_)};
  }

 private:
  /// None for a text that validate_config will refuse.
  static CheckpointSource known_source(const std::string& text) {
    for (const char* kind : {"params::", "trainstate::", "trainstate_params::"}) {
      if (text.starts_with(kind)) return parse_load_checkpoint(text);
    }
    return {};
  }

  static bool is_directory(const std::string& path) {
    std::error_code ignored;
    return std::filesystem::is_directory(path, ignored);
  }

  /// Where the config.json of a checkpoint is.
  std::filesystem::path model_directory(const CheckpointSource& checkpoint) const {
    if (!is_directory(checkpoint.path)) {
      throw IoError(fmt::format("load_checkpoint: there is no directory {}", checkpoint.path));
    }
    if (checkpoint.kind == CheckpointSource::Kind::kParams) return checkpoint.path;
    const auto save = newest_save_ ? newest_save_(checkpoint.path) : std::nullopt;
    if (save) return *save;
    throw IoError(fmt::format("load_checkpoint: no train state in {}", checkpoint.path));
  }

  /// A train state is compared when it is known which save is intact, and the tokenizer's size.
  void agree_on_parameters() {
    const CheckpointSource checkpoint = known_source(config_.load_checkpoint);
    if (checkpoint.kind != CheckpointSource::Kind::kParams) return;
    const bool is_read =
        command_ == Command::kTrain || command_ == Command::kEval || command_ == Command::kVerify;
    if (!is_read && !is_directory(checkpoint.path)) return;
    agree_with_checkpoint(config_, model_directory(checkpoint), Loading::kParameters, report_);
  }

  static std::string last_text(std::string_view name, const std::vector<Setting>& files,
                               const std::vector<Setting>& flags) {
    std::string text;
    for (const auto* settings : {&files, &flags}) {
      for (const Setting& setting : *settings) {
        if (setting.option->name != name) continue;
        text = setting.value.is_string() ? setting.value.get<std::string>() : "";
      }
    }
    return text;
  }

  void apply_model_file(const std::filesystem::path& path, const std::string& source) {
    apply(with_context("reading " + path.string(), [&] {
      return settings_of_model(read_json_object(path), source, report_.notices);
    }));
  }

  void choose_dataset_type(DatasetConfig& dataset, const std::string& name) {
    if (!dataset.type.empty() || dataset.json_dataset.path.empty()) return;
    dataset.type = "json";
    report_.sources[name + ".type"] = name + ".json_dataset.path";
  }

  void choose_attention() {
    ModelConfig& llama = config_.llama;
    if (llama.attention_type.empty()) {
      llama.attention_type = llama.scan_attention ? "blockwise" : "standard";
      report_.sources["llama.attention_type"] = "llama.scan_attention";
    } else if (llama.scan_attention && llama.attention_type.ends_with("standard")) {
      report_.notices.push_back(fmt::format(
          "llama.scan_attention=true has no effect beside llama.attention_type={}; blocks need "
          "blockwise or ring_blockwise",
          llama.attention_type));
    }
  }

  Command command_;
  const FindSave& newest_save_;
  TrainConfig config_;
  ConfigReport report_;
  std::set<std::string> without_meaning_;
};

}  // namespace

ResolvedConfig resolve_config(Command command, const CommandLine& command_line,
                              const FindSave& newest_save) {
  const auto flags = settings_of_command_line(command, command_line.assignments);
  const auto files = settings_of_files(command, command_line.config_files);
  Resolver resolver(command, newest_save);
  resolver.apply_base_model(files, flags);
  resolver.apply(files);
  const bool flag_updates = std::any_of(flags.begin(), flags.end(), [](const Setting& setting) {
    return setting.option->name == "update_llama_config";
  });
  if (!flag_updates) resolver.apply_update("file");
  resolver.apply(flags);
  resolver.apply_update(kCommandLine);
  return resolver.finish();
}

}  // namespace ringtrain
