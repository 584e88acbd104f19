#include "ringtrain/train/evaluator.h"

#include <string>
#include <utility>

#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/config/validate.h"
#include "ringtrain/core/error.h"
#include "ringtrain/core/log.h"
#include "ringtrain/train/run_checkpoints.h"
#include "ringtrain/train/run_data.h"
#include "ringtrain/train/selftest_run.h"

namespace ringtrain {

Evaluator::Evaluator(World& world, TrainConfig config, ConfigReport report)
    : world_(world), config_(std::move(config)), report_(std::move(report)) {}
Evaluator::~Evaluator() = default;

void Evaluator::set_up() {
  const CheckpointSource source = parse_load_checkpoint(config_.load_checkpoint);
  if (source.kind == CheckpointSource::Kind::kNone) {
    throw InvalidArgument(
        "eval needs --load_checkpoint=params::DIR, trainstate::DIR or trainstate_params::DIR");
  }
  if (config_.eval_steps < 1) {
    throw InvalidArgument("eval needs --eval_steps=N, the number of batches to evaluate");
  }
  config_.autoresume = false;         // of the trainer
  config_.llama.remat_block.clear();  // nothing is kept for a backward pass
  const FittedTokenizer fitted =
      fit_tokenizer(world_, config_.tokenizer, /*fixed=*/true, config_.llama);
  const Log log(world_.rank(), world_.size(), config_.log_all_worker);
  const auto state =
      find_state(world_, config_, "", report_, [&](const std::string& text) { log.warning(text); });
  for (const std::string& notice : report_.notices) log.info(notice);
  runtime_.emplace(world_, config_);
  watchdog_.emplace(world_, config_.timeout_s);
  watch_runtime(*watchdog_, *runtime_);
  watchdog_->progress(0, "self-test");
  const std::string selftest = run_short_selftest(world_, *runtime_, config_, config_.eval_dataset);
  if (!selftest.empty()) log.info(selftest);
  watchdog_->take_time(0, "loading");
  const EngineJobs jobs{.train = false, .evaluate = true};
  runtime_->allocate([&](Context& meta) { Engine(meta, config_, jobs).rehearse(); });
  engine_.emplace(runtime_->context(), config_, jobs);

  RunCheckpoints checkpoints(world_, config_, "", "");
  agree(world_, [&] {
    checkpoints.restore_parameters(state ? state->train_state.string() : source.path,
                                   state.has_value(), *engine_, runtime_->context());
  });
  data_ = start_feeder(world_, "eval_dataset", config_.eval_dataset, config_, fitted.tokenizer,
                       runtime_->mesh().shape, "");
}

EvaluationResult Evaluator::run(const std::function<void(std::int64_t)>& progress) {
  set_up();
  double denominator = 0;
  for (std::int64_t i = 0; i < config_.eval_steps; ++i) {
    runtime_->marks().set_step(i);
    watchdog_->progress(i, "evaluation");
    const LocalBatch batch = data_->next();
    engine_->evaluate(batch);
    denominator += batch.denominator;
    progress(i + 1);
  }
  const Engine::Totals totals = engine_->read_totals();
  data_.reset();
  watchdog_->shutdown();
  if (denominator == 0) throw InvalidArgument("no token of the evaluation data has a loss");
  const JsonDatasetConfig& shape = config_.eval_dataset.json_dataset;
  return {totals.loss / denominator, totals.correct / denominator,
          config_.eval_steps * shape.batch_size * shape.seq_length};
}

}  // namespace ringtrain
