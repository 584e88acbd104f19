#pragma once

#include <filesystem>

#include "ringtrain/config/model_config.h"

namespace ringtrain {

/// The model of a file: keys as in configs/models, or a Hugging Face config.json of model_type
/// llama (rope_theta and rope_scaling at the top, or rope_parameters), which must hold its sizes.
/// What else the file does not say keeps ModelConfig's default, which is transformers' too.
///
/// Errors: IoError if the file cannot be read; InvalidArgument naming the file and the key, also
/// for settings that would change the mathematics (biases, another architecture or activation,
/// quantised weights, rope types other than default, linear, llama3).
ModelConfig read_model_config(const std::filesystem::path& file);

}  // namespace ringtrain
