#pragma once

#include <vector>

#include "ringtrain/config/model_config.h"

namespace ringtrain {

/// Inverse frequencies [head_dim / 2] of RoPE (arXiv:2104.09864): theta^(-2i / head_dim), scaled
/// as in Hugging Face transformers: "linear" divides by the factor; "llama3" divides long
/// wavelengths, keeps short ones and blends between them.
/// Errors: InvalidArgument naming the scaling types that are known.
std::vector<float> rope_inverse_frequencies(const ModelConfig& config);

}  // namespace ringtrain
