#include "ringtrain/train/trainer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/checkpoint/file.h"
#include "ringtrain/comm/watchdog.h"
#include "ringtrain/config/checkpoint_agreement.h"
#include "ringtrain/config/validate.h"
#include "ringtrain/core/error.h"
#include "ringtrain/core/log.h"
#include "ringtrain/data/dataset_state.h"
#include "ringtrain/parallel/banner.h"
#include "ringtrain/train/fitting_remat.h"
#include "ringtrain/train/run_checkpoints.h"
#include "ringtrain/train/run_data.h"
#include "ringtrain/train/run_lock.h"
#include "ringtrain/train/runtime.h"
#include "ringtrain/train/selftest_run.h"
#include "ringtrain/train/signals.h"
#include "ringtrain/train/step_reporter.h"
#include "ringtrain/train/trace_file.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

fs::path run_directory_of(const LoggerConfig& logger) {
  return fs::path(logger.output_dir) / logger.experiment_id;
}

}  // namespace

class Trainer::Impl {
 public:
  Impl(World& world, TrainConfig config, ConfigReport report)
      : world_(world),
        config_(std::move(config)),
        report_(std::move(report)),
        run_directory_(run_directory_of(config_.logger)),
        log_(world.rank(), world.size(), config_.log_all_worker) {}

  void set_up();
  int run();

 private:
  bool evaluates() const { return config_.eval_steps > 0; }
  std::int64_t accumulate() const { return config_.optimizer.accumulate_gradient_steps; }

  void claim_run_directory();
  void restore_or_initialise();
  void print_banner();
  void print_wire_bytes();
  void train_step(const LocalBatch& batch);
  void timed_step(const LocalBatch& batch);
  bool is_logged() const { return step_ % config_.log_freq == 0; }
  bool is_traced() const {
    return !config_.trace.empty() && step_ - first_step_ == config_.trace_step;
  }
  void save_trace();
  bool ends_accumulation() const { return (step_ + 1) % accumulate() == 0; }
  void record_position(const LocalBatch& batch);
  double gradient_norm();
  struct Evaluation {
    double loss, accuracy;
  };
  std::optional<Evaluation> evaluate();
  bool report(const LocalBatch& batch, double learning_rate);
  void save(SaveKind kind, bool with_state);
  void check_parameters();
  bool is_saved(SaveKind kind, bool with_state) const;
  void save_if_due();
  bool should_stop();
  int stop();

  World& world_;
  TrainConfig config_;
  ConfigReport report_;
  fs::path run_directory_;
  Log log_;

  std::optional<RunLock> lock_;  // rank 0
  std::optional<FoundState> found_;
  std::optional<RunCheckpoints> checkpoints_;
  std::optional<Runtime> runtime_;
  std::optional<Engine> engine_;
  std::optional<Watchdog> watchdog_;
  std::optional<StepReporter> reporter_;
  std::optional<StopSignals> signals_;
  std::unique_ptr<BatchFeeder> train_data_;
  std::unique_ptr<BatchFeeder> eval_data_;

  std::int64_t step_ = 0;        // micro-batches done
  std::int64_t first_step_ = 0;  // of this run
  double denominator_ = 0;       // of the micro-batches since the last update
  bool has_updated_ = false;
  RunPosition position_;  // at the last update
  struct Saved {
    std::int64_t step;
    SaveKind kind;
    bool with_state;
  };
  std::optional<Saved> saved_;  // the last save of this run
  std::string eval_data_state_;
};

Trainer::Trainer(World& world, TrainConfig config, ConfigReport report)
    : impl_(std::make_unique<Impl>(world, std::move(config), std::move(report))) {}
Trainer::~Trainer() = default;
void Trainer::set_up() {
  impl_->set_up();
}
int Trainer::run() {
  return impl_->run();
}

void Trainer::Impl::set_up() {
  signals_.emplace();
  const CheckpointSource source = parse_load_checkpoint(config_.load_checkpoint);
  const FittedTokenizer fitted = fit_tokenizer(
      world_, config_.tokenizer, source.kind != CheckpointSource::Kind::kNone, config_.llama);
  if (!fitted.notice.empty()) {
    report_.notices.push_back(fitted.notice);
    report_.sources["llama.vocab_size"] = "tokenizer";
  }
  claim_run_directory();
  found_ = find_state(world_, config_, run_directory_, report_,
                      [&](const std::string& text) { log_.warning(text); });
  if (found_ && !found_->parameters_only) {
    agree(world_,
          [&] { notice_changed_training(config_, found_->train_state.parent_path(), report_); });
  }
  const std::string resolved = config_to_json(Command::kTrain, config_, report_);
  if (config_.total_steps % accumulate() != 0) {
    report_.notices.push_back(fmt::format(
        "the last {} of {} steps update nothing: optimizer.accumulate_gradient_steps={}",
        config_.total_steps % accumulate(), config_.total_steps, accumulate()));
  }
  agree(world_, [&] {
    if (world_.rank() == 0) replace_text(run_directory_ / "config.resolved.json", resolved);
  });
  checkpoints_.emplace(world_, config_, resolved, run_directory_);

  runtime_.emplace(world_, config_);
  watchdog_.emplace(world_, config_.timeout_s);
  watch_runtime(*watchdog_, *runtime_);
  watchdog_->progress(0, "self-test");
  const std::string selftest =
      run_short_selftest(world_, *runtime_, config_, config_.train_dataset);
  watchdog_->take_time(0, "loading");
  const EngineJobs jobs{.train = true, .evaluate = evaluates()};
  if (const std::string notice = fit_remat(*runtime_, jobs, config_); !notice.empty()) {
    report_.notices.push_back(notice);
  }
  runtime_->allocate([&](Context& meta) { Engine(meta, config_, jobs).rehearse(); });
  engine_.emplace(runtime_->context(), config_, jobs);
  const Mesh& mesh = runtime_->mesh();
  print_banner();
  if (!selftest.empty()) log_.info(selftest);
  if (config_.print_comm) print_wire_bytes();
  if (!config_.trace.empty()) check_trace_file(world_, config_.trace);
  restore_or_initialise();

  train_data_ = start_feeder(world_, "train_dataset", config_.train_dataset, config_,
                             fitted.tokenizer, mesh.shape, position_.data_state);
  if (evaluates()) {
    eval_data_ = start_feeder(world_, "eval_dataset", config_.eval_dataset, config_,
                              fitted.tokenizer, mesh.shape, position_.eval_data_state);
  }
  reporter_.emplace(world_, *runtime_, config_, log_, run_directory_, step_);
}

void Trainer::Impl::claim_run_directory() {
  agree(world_, [&] {
    if (world_.rank() != 0) return;
    std::error_code error;
    fs::create_directories(run_directory_, error);
    if (error) {
      throw IoError(
          fmt::format("logger.output_dir {}: {}", run_directory_.string(), error.message()));
    }
    lock_.emplace(run_directory_);
  });
}

void Trainer::Impl::print_banner() {
  const std::vector<RankPlace> places = gather_places(world_, runtime_->device());
  log_.info(mesh_banner(places, runtime_->mesh().shape, config_.mesh_order));
  for (const std::string& notice : report_.notices) log_.info(notice);
  const ModelConfig& model = config_.llama;
  std::vector<std::string_view> layouts;
  for (const SequenceLayout& layout : engine_->trainer().layouts()) {
    layouts.push_back(name_of(layout.kind()));
  }
  log_.info(fmt::format(
      "model: {} parameters, {} layers of {}, {} heads ({} key/value) of {}, vocabulary {}\n"
      "batch: {} sequences of {} tokens, {} micro-batches an update; {}; sp_layout {}, packing {}, "
      "loss_reduction {}\n"
      "attention {}; kernels: {}\n"
      "memory of rank 0 on {}:\n{}",
      count_parameters(model).total, model.num_hidden_layers, model.hidden_size,
      model.num_attention_heads, model.kv_heads(), model.head_size(), model.vocab_size,
      config_.train_dataset.json_dataset.batch_size, config_.train_dataset.json_dataset.seq_length,
      accumulate(), config_.dtype, fmt::join(layouts, " or "), config_.packing,
      config_.loss_reduction, model.attention_type, runtime_->context().ops.description(),
      runtime_->device().name(), runtime_->memory_table()));
}

void Trainer::Impl::print_wire_bytes() {
  const WireBytes sent = runtime_->count_wire_bytes(
      [&](Context& meta) { Engine(meta, config_, {.train = true, .evaluate = false}).rehearse(); });
  std::map<std::string, std::vector<int>> ranks_of;  // by table: most ranks send the same
  int rank = 0;
  for (const std::string& table : world_.all_gather(sent.to_table())) {
    ranks_of[table].push_back(rank++);
  }
  for (const auto& [table, ranks] : ranks_of) {
    log_.info(fmt::format("sent by rank {} in a step of one micro-batch and an update:\n{}",
                          fmt::join(ranks, ", "), table));
  }
}

void Trainer::Impl::restore_or_initialise() {
  Context& context = runtime_->context();
  const fs::path state = found_ ? found_->train_state : fs::path();
  const bool is_own = found_ && found_->is_own;
  const CheckpointSource source = parse_load_checkpoint(config_.load_checkpoint);
  if (found_ && found_->parameters_only) {
    agree(world_, [&] { checkpoints_->restore_parameters(state, true, *engine_, context); });
    log_.info("parameters of " + state.string());
  } else if (found_) {
    agree(world_, [&] { position_ = checkpoints_->restore(state, *engine_, context); });
    step_ = position_.step;
    if (is_own) saved_ = Saved{step_, SaveKind::kRolling, /*with_state=*/true};
    eval_data_state_ = position_.eval_data_state;
    log_.info(fmt::format("continuing at step {} of {}", step_, state.string()));
  } else if (source.kind == CheckpointSource::Kind::kParams) {
    agree(world_, [&] { checkpoints_->restore_parameters(source.path, false, *engine_, context); });
    log_.info("parameters of " + source.path);
  } else {
    engine_->parameters().initialise(static_cast<std::uint64_t>(config_.seed),
                                     config_.llama.initializer_range);
    if (config_.autoresume) log_.info("autoresume: no checkpoint yet, starting from step 0");
  }
  if (!config_.load_dataset_state.empty() && !is_own) {
    position_.data_state =
        ask_first_rank(world_, [&] { return load_dataset_state(config_.load_dataset_state); });
  }
}

int Trainer::Impl::run() {
  if (config_.save_model_freq > 0 && step_ < config_.total_steps) {
    save(SaveKind::kRolling, config_.checkpointer.save_optimizer_state);
  }
  first_step_ = step_;
  if (step_ >= config_.total_steps) {
    log_.info(fmt::format("nothing to do: step {} of {} is done", step_, config_.total_steps));
  }
  if (!config_.trace.empty() && config_.total_steps - step_ <= config_.trace_step) {
    log_.warning(fmt::format("no trace: trace_step is {}, and {} steps are left",
                             config_.trace_step, config_.total_steps - step_));
  }
  reporter_->start(step_);
  while (step_ < config_.total_steps) {
    runtime_->marks().set_step(step_);
    watchdog_->progress(step_, "waiting for data");
    const LocalBatch batch = train_data_->next();
    const double learning_rate = engine_->optimizer().learning_rate();
    watchdog_->progress(step_, "forward and backward");
    timed_step(batch);
    if (is_traced()) save_trace();
    const bool gave_up = is_logged() && !report(batch, learning_rate);
    if (ends_accumulation()) record_position(batch);
    ++step_;
    save_if_due();
    reporter_->show_progress(step_);
    if (gave_up || (step_ < config_.total_steps && should_stop())) return stop();
  }
  if (config_.save_model_freq > 0) {
    save(SaveKind::kRolling, config_.checkpointer.save_optimizer_state);
  }
  train_data_.reset();
  eval_data_.reset();
  watchdog_->shutdown();
  return static_cast<int>(ExitCode::kOk);
}

void Trainer::Impl::timed_step(const LocalBatch& batch) {
  StreamTrace& trace = runtime_->trace();
  const bool is_timed = is_traced() || (is_logged() && world_.size() > 1);
  if (is_timed) {
    trace.start(is_traced() ? StreamTrace::Detail::kAll : StreamTrace::Detail::kExposed);
  }
  train_step(batch);
  if (is_timed) trace.stop();
}

void Trainer::Impl::save_trace() {
  runtime_->context().compute.synchronise();  // the step itself is training time
  watchdog_->take_time(step_, "writing the trace");
  const auto begin = StepReporter::Clock::now();
  write_trace(world_, config_.trace, runtime_->trace(),
              fmt::format("{}: {}", world_.host_name(), runtime_->device().name()));
  reporter_->leave_out(StepReporter::Clock::now() - begin);
  watchdog_->progress(step_, "after the trace");
  log_.info(fmt::format("trace of step {}: {}", step_, config_.trace));
}

void Trainer::Impl::train_step(const LocalBatch& batch) {
  engine_->zero_totals();
  engine_->train(batch);
  denominator_ += batch.denominator;
  if (!ends_accumulation()) return;
  // Without a valid token there is nothing to divide: the gradients are zero.
  engine_->update(denominator_ > 0 ? denominator_ : 1.0);
  denominator_ = 0;
  has_updated_ = true;
}

void Trainer::Impl::record_position(const LocalBatch& batch) {
  ++position_.num_updates;
  position_.step = step_ + 1;
  position_.data_state = batch.state_after;
  position_.eval_data_state = eval_data_state_;
}

/// A run that was continued in the middle of an accumulation has the norm from its train state.
double Trainer::Impl::gradient_norm() {
  return has_updated_ ? engine_->read_gradient_norm() : position_.gradient_norm;
}

/// Nothing if a signal asks to stop meanwhile: a resumed run's next one reads its batches again.
std::optional<Trainer::Impl::Evaluation> Trainer::Impl::evaluate() {
  engine_->zero_totals();
  double denominator = 0;
  std::string data_state;
  for (std::int64_t i = 0; i < config_.eval_steps; ++i) {
    if (should_stop()) return std::nullopt;
    watchdog_->progress(step_, "evaluation");
    const LocalBatch batch = eval_data_->next();
    engine_->evaluate(batch);
    denominator += batch.denominator;
    data_state = batch.state_after;
  }
  eval_data_state_ = data_state;
  const Engine::Totals totals = engine_->read_totals();
  denominator = denominator > 0 ? denominator : 1.0;
  return Evaluation{totals.loss / denominator, totals.correct / denominator};
}

/// False if its evaluation was given up.
bool Trainer::Impl::report(const LocalBatch& batch, double learning_rate) {
  const Engine::Totals totals = engine_->read_totals();
  const double denominator = batch.denominator > 0 ? batch.denominator : 1.0;
  StepReport line;
  line.step = step_;
  line.total_steps = config_.total_steps;
  line.loss = totals.loss / denominator;
  line.accuracy = totals.correct / denominator;
  line.learning_rate = learning_rate;
  line.gradient_norm = gradient_norm();
  line.param_norm = engine_->read_param_norm();
  reporter_->measure(line, batch);  // the device is idle: the norms have been read
  const auto evaluation = evaluates() ? evaluate() : std::nullopt;
  if (evaluation) {
    line.eval_loss = evaluation->loss;
    line.eval_accuracy = evaluation->accuracy;
  }
  reporter_->start(step_ + 1);  // evaluation is no training time
  reporter_->write(line, batch);
  return evaluation.has_value() || !evaluates();
}

void Trainer::Impl::save(SaveKind kind, bool with_state) {
  if (is_saved(kind, with_state)) return;
  watchdog_->progress(step_, "before saving");
  position_.gradient_norm = gradient_norm();  // waits for the device
  check_parameters();
  watchdog_->take_time(step_, "saving");
  const auto begin = StepReporter::Clock::now();
  checkpoints_->save(position_, kind, with_state, *engine_, runtime_->context());
  reporter_->leave_out(StepReporter::Clock::now() - begin);
  saved_ = Saved{position_.step, kind, with_state};
  watchdog_->progress(step_, "after saving");
}

/// What a diverged run has made must not take the place of what it came from.
void Trainer::Impl::check_parameters() {
  if (std::isfinite(engine_->read_param_norm())) return;
  throw Error(ExitCode::kCheckFailed,
              fmt::format("the parameters after step {} are not finite numbers and are not saved; "
                          "continue from an earlier save, with a lower learning rate or other data",
                          position_.step));
}

/// The same parameters are not written again, least of all over a save that holds more.
bool Trainer::Impl::is_saved(SaveKind kind, bool with_state) const {
  return saved_ && saved_->step == position_.step &&
         (kind == SaveKind::kRolling || saved_->kind == kind) &&
         (saved_->with_state || !with_state);
}

void Trainer::Impl::save_if_due() {
  const auto is_due = [&](std::int64_t frequency) {
    return frequency > 0 && step_ % frequency == 0;
  };
  const bool with_state = config_.checkpointer.save_optimizer_state;
  if (is_due(config_.save_milestone_freq)) {
    save(SaveKind::kMilestone, with_state);
  } else if (is_due(config_.save_model_freq)) {
    save(SaveKind::kRolling, with_state);
  }
}

bool Trainer::Impl::should_stop() {
  return world_.any(signals_->received() != 0);
}

int Trainer::Impl::stop() {
  save(SaveKind::kRolling, /*with_state=*/true);
  reporter_->print_line(fmt::format("stopped by {}: step {} is saved in {}",
                                    StopSignals::name_of(signals_->received()), position_.step,
                                    run_directory_.string()));
  train_data_.reset();
  eval_data_.reset();
  watchdog_->shutdown();
  return static_cast<int>(ExitCode::kStoppedBySignal);
}

}  // namespace ringtrain
