#pragma once

#include <string>

#include "ringtrain/config/resolve.h"

namespace ringtrain {

/// Compares the run's model with that of the checkpoint it starts from, `checkpoint` being named
/// `name`. Sizes must be equal. What changes the mathematics but no size (rms_norm_eps, rope_theta,
/// rope_scaling) may differ only where the user said so by file, flag or update_llama_config, as
/// for a longer context; then a notice names both values. A preset does not count as saying so.
/// Errors: InvalidArgument naming both values.
void agree_with_checkpoint(const TrainConfig& config, const ModelConfig& checkpoint,
                           const std::string& name, ConfigReport& report);

}  // namespace ringtrain
