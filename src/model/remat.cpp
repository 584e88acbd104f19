#include "ringtrain/model/remat.h"

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

RematPlan keep_nothing() {
  RematPlan plan;
  plan.normed_attention = plan.query_key_value = plan.attention = plan.middle = false;
  plan.normed_ffn = plan.gate_up = plan.activation = false;
  return plan;
}

RematPlan plan_of(RematPolicy policy) {
  RematPlan plan = keep_nothing();
  switch (policy) {
    case RematPolicy::kEverythingSaveable:
      return {};
    case RematPolicy::kDotsSaveable:
      plan.query_key_value = plan.attention = plan.middle = plan.gate_up = true;
      return plan;
    case RematPolicy::kOffload:
      plan.input_on_host = plan.attention_on_host = true;
      [[fallthrough]];
    case RematPolicy::kSaveAttention:
      plan.attention = true;
      return plan;
    case RematPolicy::kOffloadInput:
      plan.input_on_host = true;
      return plan;
    case RematPolicy::kNothingSaveable:
      return plan;
  }
  return plan;
}

}  // namespace

std::vector<RematPlan> make_remat_plans(const ModelConfig& config) {
  const RematPlan attention = plan_of(parse_remat(config.remat_attention, "remat_attention"));
  const RematPolicy mlp_policy = parse_remat(config.remat_mlp, "remat_mlp");
  if (mlp_policy == RematPolicy::kSaveAttention) {
    throw InvalidArgument(
        "remat_mlp=save_attention: the feed-forward block has no attention; use "
        "everything_saveable, dots_saveable or nothing_saveable");
  }
  const RematPlan mlp = plan_of(mlp_policy);
  std::vector<RematPlan> plans;
  for (const RematPolicy policy : parse_remat_block(config.remat_block, config.num_hidden_layers)) {
    RematPlan plan = plan_of(policy);
    plan.normed_attention &= attention.normed_attention;
    plan.query_key_value &= attention.query_key_value;
    plan.attention &= attention.attention;
    plan.attention_on_host &= plan.attention;
    plan.normed_ffn &= mlp.normed_ffn;
    plan.gate_up &= mlp.gate_up;
    plan.activation &= mlp.activation;
    plans.push_back(plan);
  }
  return plans;
}

}  // namespace ringtrain
