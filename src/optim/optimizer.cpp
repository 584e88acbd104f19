#include "ringtrain/optim/optimizer.h"

#include <limits>
#include <span>

#include "ringtrain/optim/schedule.h"

namespace ringtrain {
namespace {

constexpr double kAdamEps = 1e-8;

}  // namespace

Optimizer::Rule Optimizer::rule_of(const OptimizerConfig& config) {
  if (config.type == "palm") {
    const PalmConfig& palm = config.palm_optimizer;
    return {.adafactor = true,
            .b1 = palm.b1,
            .b2 = palm.b2,
            .clip_gradient = palm.clip_gradient,
            .weight_decay = palm.weight_decay,
            .bf16_momentum = palm.bf16_momentum};
  }
  const AdamWConfig& adamw = config.adamw_optimizer;
  return {.adafactor = adamw.multiply_by_parameter_scale,
          .b1 = adamw.b1,
          .b2 = adamw.b2,
          .clip_gradient = adamw.clip_gradient,
          .weight_decay = adamw.weight_decay,
          .bf16_momentum = adamw.bf16_momentum};
}

Optimizer::Optimizer(const OptimizerConfig& config, const ParameterTable& table, Context& context,
                     bool moments_on_host)
    : config_(config),
      rule_(rule_of(config)),
      table_(table),
      context_(context),
      pass_(context, table) {
  check_optimizer(config);
  m_ = make_moments("m", rule_.bf16_momentum ? DType::kBFloat16 : DType::kFloat32, moments_on_host);
  v_ = make_moments("v", DType::kFloat32, moments_on_host);
  const auto allocate = [&](std::int64_t size, DType dtype) {
    return context.arena.allocate({size}, dtype, MemoryKind::kOptimizer);
  };
  counts_ = allocate(table.num_tensors(), DType::kFloat64);
  gradient_sums_ = allocate(table.num_tensors(), DType::kFloat64);
  parameter_sums_ = allocate(table.num_tensors(), DType::kFloat64);
  clip_ = allocate(2, DType::kFloat32);
  parameter_norm_ = allocate(2, DType::kFloat32);
  context.ops.fill(clip_, 0.0, context.compute);  // may be read before the first update
  upload_ranges();
}

ShardFamily Optimizer::make_moments(const char* name, DType dtype, bool on_host) {
  ShardFamily family{.name = name, .shards = {}, .on_host = on_host};
  Arena& arena = on_host ? context_.host : context_.arena;
  for (const ParameterUnit& unit : table_.units()) {
    family.shards.push_back(
        arena.allocate({table_.shard_elements(unit)}, dtype, MemoryKind::kOptimizer));
  }
  pass_.run({{.family = &family, .is_read = false, .is_written = true}}, context_.compute,
            [&](std::size_t, std::span<const Tensor> shards) {
              context_.ops.fill(shards[0], 0.0, context_.compute);
            });
  return family;
}

void Optimizer::upload_ranges() {
  std::vector<double> counts(static_cast<std::size_t>(table_.num_tensors()));
  const int shard = context_.mesh.param->rank();
  for (const ParameterUnit& unit : table_.units()) {
    std::vector<std::int64_t> rows;
    for (const SegmentRun& run : segment_runs(table_, unit, shard)) {
      // Replicated tensors are equal on all tp ranks: the first of them counts.
      const bool counted = run.segment->split != TpSplit::kReplicated || table_.tp_rank() == 0;
      rows.insert(rows.end(), {run.shard_begin, run.shard_begin + run.count, run.segment->index,
                               counted ? 1 : 0});
    }
    for (const Segment& segment : unit.segments) {
      counts[static_cast<std::size_t>(segment.index)] =
          static_cast<double>(segment.shape.num_elements());
    }
    Tensor& ranges = ranges_.emplace_back();
    if (rows.empty()) continue;
    ranges = context_.arena.allocate({static_cast<std::int64_t>(rows.size() / 4), 4}, DType::kInt64,
                                     MemoryKind::kOptimizer);
    context_.device.copy_to_device(ranges.raw(), rows.data(), ranges.bytes(), context_.compute);
    context_.compute.synchronise();  // `rows` ends here
  }
  context_.device.copy_to_device(counts_.raw(), counts.data(), counts_.bytes(), context_.compute);
  context_.compute.synchronise();
}

Tensor Optimizer::in_fp32(Tensor shard, Stream& stream) {
  if (shard.dtype() == DType::kFloat32) return shard;
  const Tensor values =
      context_.arena.allocate(shard.shape(), DType::kFloat32, MemoryKind::kWorkspace);
  context_.ops.cast(shard, values, stream);
  return values;
}

void Optimizer::sum_of_squares(const ShardFamily& values, Tensor sums, Stream& stream) {
  context_.ops.fill(sums, 0.0, stream);
  pass_.run({{.family = &values}}, stream, [&](std::size_t unit, std::span<const Tensor> shards) {
    if (!ranges_[unit]) return;  // padding only
    const Arena::Scope scope(context_.arena);
    context_.ops.sum_of_squares(
        {.x = in_fp32(shards[0], stream), .ranges = ranges_[unit], .sums = sums}, stream);
  });
  context_.mesh.param->all_reduce(sums, ReduceOp::kSum, stream);
  context_.mesh.tp->all_reduce(sums, ReduceOp::kSum, stream);
}

double Optimizer::learning_rate() const {
  return fixed_rate_ ? *fixed_rate_ : ringtrain::learning_rate(config_, num_updates_);
}

double Optimizer::decay_of_step(double rate) const {
  return config_.type == "palm" ? rule_.weight_decay / 1e-4 * rate * rate
                                : rule_.weight_decay * rate;
}

void Optimizer::update(const ShardFamily& masters, const ShardFamily& gradients, double denominator,
                       Stream& stream, const std::vector<Tensor>& weights) {
  const double rate = learning_rate();
  sum_of_squares(gradients, gradient_sums_, stream);
  context_.ops.clip_scale({.sums = gradient_sums_,
                           .out = clip_,
                           .scale = 1.0 / denominator,
                           .max_norm = rule_.clip_gradient},
                          stream);
  if (rule_.adafactor) sum_of_squares(masters, parameter_sums_, stream);
  pass_.run({{.family = &masters, .is_written = true},
             {.family = &gradients},
             {.family = &m_, .is_written = true},
             {.family = &v_, .is_written = true}},
            stream, [&](std::size_t unit, std::span<const Tensor> shards) {
              if (!ranges_[unit]) return;  // padding only
              const Arena::Scope scope(context_.arena);
              update_unit(unit, shards[0], in_fp32(shards[1], stream), shards[2], shards[3],
                          weights.empty() ? Tensor{} : weights[unit], rate, stream);
            });
  ++num_updates_;
}

void Optimizer::update_unit(std::size_t unit, Tensor master, Tensor gradient, Tensor m, Tensor v,
                            Tensor weights, double rate, Stream& stream) {
  if (rule_.adafactor) {
    context_.ops.adafactor({.param = master,
                            .grad = gradient,
                            .factor = clip_,
                            .m = m,
                            .v = v,
                            .ranges = ranges_[unit],
                            .param_sums = parameter_sums_,
                            .param_counts = counts_,
                            .learning_rate = rate,
                            .b1 = rule_.b1,
                            .decay_rate = rule_.b2,
                            .weight_decay = decay_of_step(rate),
                            .step = num_updates_},
                           stream);
    if (weights) context_.ops.cast(master, weights, stream);
  } else {
    context_.ops.adamw({.param = master,
                        .grad = gradient,
                        .factor = clip_,
                        .m = m,
                        .v = v,
                        .weights = weights,
                        .learning_rate = rate,
                        .b1 = rule_.b1,
                        .b2 = rule_.b2,
                        .eps = kAdamEps,
                        .weight_decay = rule_.weight_decay,
                        .step = num_updates_ + 1},
                       stream);
  }
}

Tensor Optimizer::parameter_norm(const ShardFamily& masters, Stream& stream) {
  sum_of_squares(masters, parameter_sums_, stream);
  context_.ops.clip_scale({.sums = parameter_sums_,
                           .out = parameter_norm_,
                           .scale = 1.0,
                           .max_norm = std::numeric_limits<double>::infinity()},
                          stream);
  return parameter_norm_;
}

}  // namespace ringtrain
