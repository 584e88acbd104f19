#include "ringtrain/train/evaluator.h"

#include <optional>
#include <string>

#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/comm/watchdog.h"
#include "ringtrain/config/validate.h"
#include "ringtrain/core/error.h"
#include "ringtrain/core/log.h"
#include "ringtrain/train/run_checkpoints.h"
#include "ringtrain/train/run_data.h"
#include "ringtrain/train/runtime.h"

namespace ringtrain {

EvaluationResult evaluate_checkpoint(World& world, TrainConfig config,
                                     const std::function<void(std::int64_t)>& progress) {
  const CheckpointSource source = parse_load_checkpoint(config.load_checkpoint);
  if (source.kind == CheckpointSource::Kind::kNone) {
    throw InvalidArgument(
        "eval needs --load_checkpoint=params::DIR, trainstate::DIR or trainstate_params::DIR");
  }
  if (config.eval_steps < 1) {
    throw InvalidArgument("eval needs --eval_steps=N, the number of batches to evaluate");
  }
  const FittedTokenizer fitted =
      fit_tokenizer(world, config.tokenizer, /*fixed=*/true, config.llama);
  Runtime runtime(world, config);
  const EngineJobs jobs{.train = false, .evaluate = true};
  runtime.allocate([&](Context& meta) { Engine(meta, config, jobs).rehearse(); });
  Engine engine(runtime.context(), config, jobs);

  RunCheckpoints checkpoints(world, config, "", "");
  const bool is_state = source.kind != CheckpointSource::Kind::kParams;
  const Log log(world.rank(), world.size(), config.log_all_worker);
  const auto warn = [&](const std::string& text) { log.warning(text); };
  const auto state = is_state ? checkpoints.find(warn) : std::nullopt;
  agree(world, [&] {
    checkpoints.restore_parameters(state ? state->train_state.string() : source.path, is_state,
                                   engine, runtime.context());
  });

  Watchdog watchdog(world, config.timeout_s);
  const auto data = start_feeder(world, "eval_dataset", config.eval_dataset, config,
                                 fitted.tokenizer, runtime.mesh().shape, "");
  double denominator = 0;
  for (std::int64_t i = 0; i < config.eval_steps; ++i) {
    watchdog.progress(i, "evaluation");
    const LocalBatch batch = data->next();
    engine.evaluate(batch);
    denominator += batch.denominator;
    progress(i + 1);
  }
  const Engine::Totals totals = engine.read_totals();
  watchdog.shutdown();
  if (denominator == 0) throw InvalidArgument("no token of the evaluation data has a loss");
  const JsonDatasetConfig& shape = config.eval_dataset.json_dataset;
  return {totals.loss / denominator, totals.correct / denominator,
          config.eval_steps * shape.batch_size * shape.seq_length};
}

}  // namespace ringtrain
