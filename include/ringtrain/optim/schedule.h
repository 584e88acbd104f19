#pragma once

#include <cstdint>

#include "ringtrain/config/train_config.h"

namespace ringtrain {

/// The learning rate of update `update` (0 for the first): the original's schedules.
///   adamw  linear from init_lr to lr over lr_warmup_steps updates, then half a cosine to end_lr at
///          lr_decay_steps (counted from update 0), constant after: optax's
///          warmup_cosine_decay_schedule
///   palm   (lr / 0.01) / sqrt(max(update, lr_warmup_steps))
double learning_rate(const OptimizerConfig& config, std::int64_t update);

/// Errors: InvalidArgument naming the flag if the type or a setting makes no sense: a decay that
/// ends before the warm-up, betas outside [0, 1), a negative rate, fewer than one micro-step.
void check_optimizer(const OptimizerConfig& config);

}  // namespace ringtrain
