#pragma once

#include <string>

#include "ringtrain/config/train_config.h"
#include "ringtrain/train/engine.h"
#include "ringtrain/train/runtime.h"

namespace ringtrain {

/// Replaces remat_block=auto in `config` by the mix (train/remat_choice.h) that fits the free
/// memory of all ranks' devices and hosts, the same on every rank; where none fits, by what keeps
/// least, so that Runtime::allocate tells what is missing. Other policies rest. Collective, before
/// `allocate`. Returns a line for the banner, or "".
std::string fit_remat(Runtime& runtime, const EngineJobs& jobs, TrainConfig& config);

}  // namespace ringtrain
