#include "ringtrain/train/run_checkpoints.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/checkpoint/checkpoint_folder.h"
#include "ringtrain/checkpoint/file.h"
#include "ringtrain/checkpoint/hf_checkpoint.h"
#include "ringtrain/checkpoint/train_state.h"
#include "ringtrain/config/checkpoint_agreement.h"
#include "ringtrain/config/validate.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

std::vector<ShardFamily> state_families(Engine& engine) {
  std::vector<ShardFamily> families{engine.parameters().masters()};
  for (ShardFamily& family : engine.optimizer().state()) families.push_back(std::move(family));
  return families;
}

std::string to_json(const RunPosition& position, const OptimizerConfig& optimizer) {
  return nlohmann::ordered_json{{"step", position.step},
                                {"num_updates", position.num_updates},
                                {"gradient_norm", position.gradient_norm},
                                {"optimizer", optimizer.type},
                                {"data_state", position.data_state},
                                {"eval_data_state", position.eval_data_state}}
      .dump(1);
}

RunPosition position_from_json(const std::string& text, const std::filesystem::path& directory,
                               const OptimizerConfig& optimizer) {
  try {
    const auto json = nlohmann::json::parse(text);
    const auto type = json.at("optimizer").get<std::string>();
    if (type != optimizer.type) {
      throw InvalidArgument(fmt::format("optimizer.type={}, but {} was saved with {}",
                                        optimizer.type, directory.string(), type));
    }
    RunPosition position;
    json.at("step").get_to(position.step);
    json.at("num_updates").get_to(position.num_updates);
    const auto& norm = json.at("gradient_norm");  // JSON has null for infinity and NaN
    position.gradient_norm = norm.is_null() ? std::nan("") : norm.get<double>();
    json.at("data_state").get_to(position.data_state);
    json.at("eval_data_state").get_to(position.eval_data_state);
    return position;
  } catch (const nlohmann::json::exception& error) {
    throw IoError(fmt::format("{}: metadata.json is not of a train state: {}", directory.string(),
                              error.what()));
  }
}

std::optional<FoundState> search(World& world, const TrainConfig& config,
                                 const std::filesystem::path& run_directory,
                                 const std::function<void(const std::string&)>& warn) {
  using Kind = CheckpointSource::Kind;
  if (config.autoresume) {
    const auto own = find_train_state(world, run_directory, warn);
    if (own) return FoundState{*own, /*is_own=*/true};
  }
  const CheckpointSource source = parse_load_checkpoint(config.load_checkpoint);
  if (source.kind != Kind::kTrainState && source.kind != Kind::kTrainStateParams) {
    return std::nullopt;
  }
  const auto state = find_train_state(world, source.path, warn);
  if (!state) {
    throw IoError(fmt::format("load_checkpoint={}: no train state there", config.load_checkpoint));
  }
  return FoundState{*state, /*is_own=*/false, source.kind == Kind::kTrainStateParams};
}

}  // namespace

std::optional<FoundState> find_state(World& world, const TrainConfig& config,
                                     const std::filesystem::path& run_directory,
                                     ConfigReport& report,
                                     const std::function<void(const std::string&)>& warn) {
  const auto found = search(world, config, run_directory, warn);
  if (!found) return std::nullopt;
  agree(world, [&] {
    agree_with_checkpoint(config, found->train_state.parent_path(),
                          found->parameters_only ? Loading::kParameters : Loading::kTrainState,
                          report);
  });
  return found;
}

RunCheckpoints::RunCheckpoints(World& world, const TrainConfig& config, std::string resolved_config,
                               std::filesystem::path run_directory)
    : world_(world),
      config_(config),
      resolved_config_(std::move(resolved_config)),
      run_directory_(std::move(run_directory)) {}

RunPosition RunCheckpoints::restore(const std::filesystem::path& train_state, Engine& engine,
                                    Context& context) {
  load_train_state(train_state, engine.table(), context, state_families(engine));
  engine.parameters().refresh_compute_weights();
  RunPosition position =
      position_from_json(read_train_state_metadata(train_state), train_state, config_.optimizer);
  engine.optimizer().set_num_updates(position.num_updates);
  return position;
}

void RunCheckpoints::restore_parameters(const std::filesystem::path& source, bool is_train_state,
                                        Engine& engine, Context& context) {
  if (is_train_state) {
    load_train_state(source, engine.table(), context, {engine.parameters().masters()});
  } else {
    load_hf_parameters(source, engine.table(), context, engine.parameters().masters());
  }
  engine.parameters().refresh_compute_weights();
}

void RunCheckpoints::save(const RunPosition& position, SaveKind kind, bool with_state,
                          Engine& engine, Context& context) {
  const auto write = [&](const std::filesystem::path& directory) {
    HfExport options;
    options.dtype = dtype_from_name(config_.checkpointer.float_dtype);
    options.tokenizer_file = config_.tokenizer.vocab_file;
    write_hf_checkpoint(world_, directory, config_.llama, engine.table(), context,
                        engine.parameters().masters(), options);
    agree(world_, [&] {
      if (world_.rank() != 0) return;
      replace_text(directory / "config.resolved.json", resolved_config_);
      if (!position.data_state.empty()) {
        replace_text(directory / "dataset_state.json", position.data_state);
      }
      if (!with_state) return;
      std::error_code error;
      std::filesystem::create_directory(directory / kTrainStateFolder, error);
      if (error) {
        throw IoError(fmt::format("cannot create {}: {}", (directory / kTrainStateFolder).string(),
                                  error.message()));
      }
    });
    if (with_state) {
      write_train_state(world_, directory / kTrainStateFolder, engine.table(), context,
                        state_families(engine), to_json(position, config_.optimizer));
    }
  };
  save_checkpoint(world_, run_directory_ / kCheckpointFolder, position.step,
                  kind == SaveKind::kMilestone, write);
}

}  // namespace ringtrain
