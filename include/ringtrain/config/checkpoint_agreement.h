#pragma once

#include <filesystem>

#include "ringtrain/config/resolve.h"

/// What a run and the checkpoint that it begins with say of the same settings.
namespace ringtrain {

/// What a run takes from a checkpoint.
enum class Loading { kParameters, kTrainState };

/// Compares the run's model with that of the checkpoint: `directory` / config.json. Sizes must be
/// equal. What changes the mathematics but no size (rms_norm_eps, rope_theta, rope_scaling) must be
/// equal for a train state, since a run that goes on is one run; with parameters alone it may
/// differ where the user said so by file, flag or update_llama_config, as for a longer context, and
/// then a notice names both values. A preset does not count as saying so.
/// Errors: InvalidArgument naming both values; IoError without a config.json.
void agree_with_checkpoint(const TrainConfig& config, const std::filesystem::path& directory,
                           Loading loading, ConfigReport& report);

/// A notice naming both values for each setting of the loss and the optimizer that differs from
/// `directory` / config.resolved.json, which the run that goes on was saved with; learning rates
/// are meant to change and not named. Nothing if there is no such file. Errors: IoError,
/// InvalidArgument for a file that is none of ours.
void notice_changed_training(const TrainConfig& config, const std::filesystem::path& directory,
                             ConfigReport& report);

}  // namespace ringtrain
