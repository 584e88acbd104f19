#pragma once

#include <string>

#include "ringtrain/config/model_config.h"
#include "ringtrain/core/dtype.h"

/// config.json of a Hugging Face LLaMA directory; config/model_file.h reads it. The RoPE settings
/// stand either at the top level (rope_theta, rope_scaling) or, since transformers 5, in
/// rope_parameters; both are written.
namespace ringtrain {

/// The text of a config.json that transformers 4 and 5 open as LlamaForCausalLM with weights of
/// `dtype`.
std::string hf_config_text(const ModelConfig& config, DType dtype);
/// The text of the generation_config.json beside it.
std::string hf_generation_config_text(const ModelConfig& config);

}  // namespace ringtrain
