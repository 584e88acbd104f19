#pragma once

#include "ringtrain/config/model_config.h"

namespace ringtrain {

/// What of a layer is kept between forward and backward; what is not is computed again, with the
/// same operations in the same order, so the policy never changes a bit of the result. The
/// layer's input is always kept.
struct RematPlan {
  bool normed_attention = true;  ///< RMSNorm output before the QKV projection
  bool query_key_value = true;   ///< after RoPE
  bool attention = true;         ///< attention output and lse: attention is not repeated
  bool middle = true;            ///< residual stream between attention and feed-forward
  bool normed_ffn = true;        ///< RMSNorm output before the gate and up projections
  bool gate_up = true;           ///< gate and up projections
  bool activation = true;        ///< SwiGLU output
};

/// remat_block bounds what remat_attention and remat_mlp may keep. Names as in JAX; the empty
/// string keeps everything; save_attention (block or attention) keeps the attention output alone.
/// Errors: InvalidArgument naming the flag and the valid policies.
RematPlan make_remat_plan(const ModelConfig& config);

}  // namespace ringtrain
