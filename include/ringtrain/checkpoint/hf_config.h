#pragma once

#include <filesystem>
#include <string>

#include "ringtrain/config/model_config.h"
#include "ringtrain/core/dtype.h"

/// config.json of a Hugging Face LLaMA directory. The RoPE settings stand either at the top level
/// (rope_theta, rope_scaling) or, since transformers 5, in rope_parameters; both are read, and both
/// are written.
namespace ringtrain {

/// The model's shape from `directory`/config.json; keys that are not there take transformers'
/// defaults, how it is computed (attention type, remat, chunks) keeps ours.
/// Errors: IoError if the file is missing, is not JSON or lacks a size; InvalidArgument if it
/// describes what this program does not compute: another architecture, biases, another activation,
/// another RoPE type, quantised weights.
ModelConfig read_hf_config(const std::filesystem::path& directory);

/// The text of a config.json that transformers 4 and 5 open as LlamaForCausalLM with weights of
/// `dtype`.
std::string hf_config_text(const ModelConfig& config, DType dtype);
/// The text of the generation_config.json beside it.
std::string hf_generation_config_text(const ModelConfig& config);

}  // namespace ringtrain
