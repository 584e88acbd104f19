#include "ringtrain/model/loss_head.h"

#include "ringtrain/model/chunks.h"

namespace ringtrain {

void LossHead::evaluate(const Args& args) {
  run(args, nullptr);
}

void LossHead::train(const Args& args, const Gradients& gradients) {
  run(args, &gradients);
}

void LossHead::run(const Args& args, const Gradients* gradients) {
  const Region region(context_.observer, context_.compute, {"head"});
  const std::int64_t rows = args.x.size(0);
  const std::int64_t hidden = args.x.size(1);
  const std::int64_t vocabulary = args.matrix.size(0);
  const auto workspace = [&](Shape shape, DType dtype) {
    return context_.arena.allocate(shape, dtype, MemoryKind::kWorkspace);
  };
  const auto compute_chunk = [&](std::int64_t begin, std::int64_t count) {
    const Arena::Scope scope(context_.arena);
    const Tensor x = args.x.slice(begin, count);
    const Tensor normed = workspace({count, hidden}, context_.compute_dtype);
    const Tensor rstd = workspace({count}, DType::kFloat32);
    const Tensor logits = workspace({count, vocabulary}, context_.compute_dtype);
    context_.ops.rms_norm({x, args.norm, normed, rstd, options_.rms_norm_eps}, context_.compute);
    context_.ops.matmul({normed, args.matrix, logits, false, true}, context_.compute);
    if (args.logits) {
      context_.ops.cast(logits, args.logits.slice(begin, count), context_.compute);
    }
    cross_entropy(logits, args.targets.slice(begin, count), args.weights.slice(begin, count),
                  args.totals, gradients != nullptr);
    if (gradients == nullptr) return;
    const Tensor dnormed = workspace({count, hidden}, context_.compute_dtype);
    const Tensor dx = gradients->dx.slice(begin, count);
    const bool adds = begin > 0 || !gradients->dmatrix_is_empty;
    context_.ops.matmul({logits, args.matrix, dnormed}, context_.compute);
    sum_.start(dnormed);                         // behind the gradient of the matrix
    context_.ops.fill(dx, 0, context_.compute);  // short: the sum begins where a kernel ends
    context_.ops.matmul({logits, normed, gradients->dmatrix, true, false, adds}, context_.compute);
    sum_.finish();
    context_.ops.rms_norm_backward({dnormed, x, args.norm, rstd, dx, gradients->dnorm},
                                   context_.compute);
  };
  for_each_chunk(context_, rows, options_.chunk_size, compute_chunk);
}

void LossHead::cross_entropy(Tensor logits, Tensor targets, Tensor weights, Tensor totals,
                             bool write_gradient) {
  const std::int64_t rows = logits.size(0);
  const auto [first, count] = options_.vocabulary;
  const Tensor stats = context_.arena.allocate({4, rows}, DType::kFloat32, MemoryKind::kWorkspace);
  context_.ops.cross_entropy_stats({logits, targets, stats, first, count}, context_.compute);
  if (context_.mesh.tp->size() > 1) {
    const Tensor maximum = context_.arena.allocate({rows}, DType::kFloat32, MemoryKind::kWorkspace);
    context_.ops.cast(stats[0], maximum, context_.compute);
    context_.mesh.tp->all_reduce(maximum, ReduceOp::kMax, context_.compute);
    context_.ops.cross_entropy_rescale({stats, maximum}, context_.compute);
    context_.mesh.tp->all_reduce(stats.slice(1, 2), ReduceOp::kSum, context_.compute);
    context_.mesh.tp->all_reduce(stats[3], ReduceOp::kMin, context_.compute);
  }
  context_.ops.cross_entropy_finish(
      {logits, targets, weights, stats, totals, first, count, write_gradient}, context_.compute);
}

}  // namespace ringtrain
