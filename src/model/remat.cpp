#include "ringtrain/model/remat.h"

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr RematPlan kKeepNothing{false, false, false, false, false, false, false};

RematPlan block_plan(RematPolicy policy) {
  RematPlan plan = kKeepNothing;
  switch (policy) {
    case RematPolicy::kEverythingSaveable:
      return {};
    case RematPolicy::kDotsSaveable:
      plan.query_key_value = plan.attention = plan.middle = plan.gate_up = true;
      return plan;
    case RematPolicy::kSaveAttention:
      plan.attention = true;
      return plan;
    case RematPolicy::kNothingSaveable:
      return plan;
  }
  return plan;
}

}  // namespace

RematPlan make_remat_plan(const ModelConfig& config) {
  const RematPlan block = block_plan(parse_remat(config.remat_block, "remat_block"));
  const RematPlan attention = block_plan(parse_remat(config.remat_attention, "remat_attention"));
  const RematPolicy mlp_policy = parse_remat(config.remat_mlp, "remat_mlp");
  if (mlp_policy == RematPolicy::kSaveAttention) {
    throw InvalidArgument(
        "remat_mlp=save_attention: the feed-forward block has no attention; use "
        "everything_saveable, dots_saveable or nothing_saveable");
  }
  const RematPlan mlp = block_plan(mlp_policy);
  RematPlan plan;
  plan.normed_attention = block.normed_attention && attention.normed_attention;
  plan.query_key_value = block.query_key_value && attention.query_key_value;
  plan.attention = block.attention && attention.attention;
  plan.middle = block.middle;
  plan.normed_ffn = block.normed_ffn && mlp.normed_ffn;
  plan.gate_up = block.gate_up && mlp.gate_up;
  plan.activation = block.activation && mlp.activation;
  return plan;
}

}  // namespace ringtrain
