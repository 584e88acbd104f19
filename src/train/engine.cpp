#include "ringtrain/train/engine.h"

#include <array>

namespace ringtrain {

Engine::Engine(Context& context, const TrainConfig& config, EngineJobs jobs)
    : context_(context),
      table_(make_llama_table(config.llama, context.mesh.coordinates.tp, context.mesh.shape.tp,
                              context.mesh.shape.num_param_shards())),
      parameters_(context, table_,
                  {.with_gradients = jobs.train,
                   .masters_on_host = config.offload_optimizer,
                   .gradient_dtype = dtype_from_name(config.grad_dtype)}),
      totals_(context.arena.allocate({2}, DType::kFloat64, MemoryKind::kBatch)),
      sums_(context.arena.allocate({2}, DType::kFloat64, MemoryKind::kBatch)) {
  const auto make_runner = [&](const DatasetConfig& dataset) {
    return std::make_unique<ModelRunner>(context, config, parameters_,
                                         dataset.json_dataset.batch_size,
                                         dataset.json_dataset.seq_length);
  };
  if (jobs.train) {
    optimizer_.emplace(config.optimizer, table_, context, config.offload_optimizer);
    train_runner_ = make_runner(config.train_dataset);
  }
  if (jobs.evaluate) eval_runner_ = make_runner(config.eval_dataset);
  zero_totals();
}

void Engine::rehearse() {
  if (eval_runner_) eval_runner_->evaluate(totals_);
  if (train_runner_) {
    train_runner_->train(totals_);
    update(1.0);
  }
}

void Engine::train(const LocalBatch& batch) {
  train_runner_->load(batch);
  train_runner_->train(totals_);
}

void Engine::evaluate(const LocalBatch& batch, Tensor logits) {
  const Region region(context_.observer, context_.compute, {"evaluation"});
  eval_runner_->load(batch);
  eval_runner_->evaluate(totals_, logits);
}

void Engine::update(double denominator) {
  const Region region(context_.observer, context_.compute, {"update"});
  parameters_.finish_gradients();
  optimizer_->update(parameters_.masters(), parameters_.gradients(), denominator, context_.compute,
                     parameters_.separate_weights());
  parameters_.drop_gradients();
  parameters_.publish_compute_weights();
}

void Engine::zero_totals() {
  context_.ops.fill(totals_, 0, context_.compute);
}

Engine::Totals Engine::read_totals() {
  context_.ops.cast(totals_, sums_, context_.compute);
  context_.mesh.param->all_reduce(sums_, ReduceOp::kSum, context_.compute);
  context_.mesh.dp->all_reduce(sums_, ReduceOp::kSum, context_.compute);
  std::array<double, 2> sums{};
  read(sums_, sums.data());
  return {sums[0], sums[1]};
}

double Engine::read_gradient_norm() {
  std::array<float, 2> clip{};
  read(optimizer_->gradient_norm(), clip.data());
  return clip[0];
}

double Engine::read_param_norm() {
  std::array<float, 2> norm{};
  read(optimizer_->parameter_norm(parameters_.masters(), context_.compute), norm.data());
  return norm[0];
}

void Engine::read(Tensor tensor, void* host) {
  context_.device.copy_to_host(host, tensor.raw(), tensor.bytes(), context_.compute);
  context_.compute.synchronise();
}

}  // namespace ringtrain
