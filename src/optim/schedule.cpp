#include "ringtrain/optim/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

double warmup_cosine(const AdamWConfig& config, std::int64_t update) {
  const auto at = static_cast<double>(update);
  const auto warmup = static_cast<double>(config.lr_warmup_steps);
  if (at < warmup) return config.init_lr + (config.lr - config.init_lr) * at / warmup;
  const double decay = static_cast<double>(config.lr_decay_steps) - warmup;
  const double progress = std::min((at - warmup) / decay, 1.0);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  // optax writes the end as a share of the peak, so a peak of zero stays zero.
  return config.lr == 0.0 ? 0.0 : config.end_lr + (config.lr - config.end_lr) * cosine;
}

// In float32, as the original computes it: its square is the share of every parameter that an
// update takes away, so the rounding of the rate shows in the parameters.
double inverse_square_root(const PalmConfig& config, std::int64_t update) {
  const auto at = static_cast<float>(std::max(update, config.lr_warmup_steps));
  return static_cast<float>(config.lr / 0.01) / std::sqrt(at);
}

void require(bool holds, std::string_view flag, double value, std::string_view expected) {
  if (holds) return;
  throw InvalidArgument(fmt::format("--optimizer.{}={}: expected {}", flag, value, expected));
}

template <typename Config>
void check_common(const Config& config, std::string_view prefix) {
  const auto flag = [&](std::string_view name) { return fmt::format("{}.{}", prefix, name); };
  require(config.lr >= 0, flag("lr"), config.lr, "a rate of at least 0");
  require(config.b1 >= 0 && config.b1 < 1, flag("b1"), config.b1, "a value in [0, 1)");
  require(config.b2 >= 0 && config.b2 < 1, flag("b2"), config.b2, "a value in [0, 1)");
  require(config.weight_decay >= 0, flag("weight_decay"), config.weight_decay, "at least 0");
  require(config.clip_gradient > 0, flag("clip_gradient"), config.clip_gradient,
          "a norm above 0 (inf for no clipping)");
}

}  // namespace

double learning_rate(const OptimizerConfig& config, std::int64_t update) {
  return config.type == "palm" ? inverse_square_root(config.palm_optimizer, update)
                               : warmup_cosine(config.adamw_optimizer, update);
}

void check_optimizer(const OptimizerConfig& config) {
  require(config.accumulate_gradient_steps >= 1, "accumulate_gradient_steps",
          static_cast<double>(config.accumulate_gradient_steps), "at least 1");
  if (config.type == "adamw") {
    const AdamWConfig& adamw = config.adamw_optimizer;
    check_common(adamw, "adamw_optimizer");
    require(adamw.lr_warmup_steps >= 0, "adamw_optimizer.lr_warmup_steps",
            static_cast<double>(adamw.lr_warmup_steps), "at least 0");
    require(adamw.lr_decay_steps > adamw.lr_warmup_steps, "adamw_optimizer.lr_decay_steps",
            static_cast<double>(adamw.lr_decay_steps),
            fmt::format("more than the {} of lr_warmup_steps: the decay is counted from step 0",
                        adamw.lr_warmup_steps));
  } else if (config.type == "palm") {
    check_common(config.palm_optimizer, "palm_optimizer");
    require(config.palm_optimizer.lr_warmup_steps >= 1, "palm_optimizer.lr_warmup_steps",
            static_cast<double>(config.palm_optimizer.lr_warmup_steps), "at least 1");
  } else {
    throw InvalidArgument(fmt::format("--optimizer.type={}: expected adamw or palm", config.type));
  }
}

}  // namespace ringtrain
