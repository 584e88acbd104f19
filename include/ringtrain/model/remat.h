#pragma once

#include <vector>

#include "ringtrain/config/model_config.h"

namespace ringtrain {

/// What of a layer is kept between forward and backward; what is not is computed again, with the
/// same operations in the same order, so the policy never changes a bit of the result. The
/// layer's input is always kept.
struct RematPlan {
  bool normed_attention = true;    ///< RMSNorm output before the QKV projection
  bool query_key_value = true;     ///< after RoPE
  bool attention = true;           ///< attention output and lse: attention is not repeated
  bool middle = true;              ///< residual stream between attention and feed-forward
  bool normed_ffn = true;          ///< RMSNorm output before the gate and up projections
  bool gate_up = true;             ///< gate and up projections
  bool activation = true;          ///< SwiGLU output
  bool input_on_host = false;      ///< the layer's input is kept in host memory
  bool attention_on_host = false;  ///< so are attention output and lse, where kept
};

/// The plan of every layer: remat_block, which may differ by layer, bounds what remat_attention and
/// remat_mlp may keep. Names as in JAX; the empty string keeps everything; save_attention (block or
/// attention) keeps the attention output alone; offload and offload_input (block) are
/// save_attention and nothing_saveable with what they keep in host memory. Errors: InvalidArgument
/// naming the flag and the valid policies.
std::vector<RematPlan> make_remat_plans(const ModelConfig& config);

}  // namespace ringtrain
