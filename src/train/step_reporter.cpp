#include "ringtrain/train/step_reporter.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "ringtrain/train/flops.h"

namespace ringtrain {
namespace {

constexpr std::size_t kThroughputWindow = 10;  // log intervals

}  // namespace

StepReporter::StepReporter(World& world, Runtime& runtime, const TrainConfig& config,
                           const Log& log, const std::filesystem::path& run_directory,
                           std::int64_t first_step)
    : world_(world),
      runtime_(runtime),
      config_(config),
      log_(log),
      throughput_(kThroughputWindow),
      begin_(Clock::now()),
      first_step_(first_step) {
  if (world.rank() == 0) {
    metrics_.emplace(run_directory / "metrics.jsonl", first_step);
    console_.emplace(stdout, is_on_terminal(stdout), config.total_steps);
  } else if (config.log_all_worker) {
    metrics_.emplace(run_directory / fmt::format("metrics.rank-{}.jsonl", world.rank()),
                     first_step);
  }
}

void StepReporter::start(std::int64_t step) {
  begin_ = Clock::now();
  first_step_ = step;
}

/// Of the logged step that was timed last, mean of the ranks. Collective.
double StepReporter::exposed_comm() {
  double sum = 0;
  for (const std::string& share :
       world_.all_gather(fmt::format("{}", runtime_.trace().exposed_share()))) {
    sum += std::stod(share);
  }
  return sum / world_.size();
}

void StepReporter::measure(StepReport& line, const LocalBatch& batch) {
  const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  const std::int64_t steps = line.step + 1 - first_step_;
  const JsonDatasetConfig& data = config_.train_dataset.json_dataset;
  throughput_.add(steps, steps * data.batch_size * data.seq_length, seconds);
  line.tokens_per_s = throughput_.tokens_per_s();
  const double attended_keys =
      nlohmann::json::parse(batch.metrics).at("attended_keys").get<double>();
  const double flops_per_s =
      line.tokens_per_s / world_.size() * model_flops_per_token(config_.llama, attended_keys);
  line.model_tflops = flops_per_s * 1e-12;
  if (const double peak = runtime_.device().peak_flops(); peak > 0) line.mfu = flops_per_s / peak;
  if (world_.size() > 1) line.exposed_comm = exposed_comm();
  line.memory_bytes = runtime_.fullest_rank_bytes();
  line.host_memory_bytes = runtime_.fullest_rank_host_bytes();
}

void StepReporter::write(const StepReport& line, const LocalBatch& batch) {
  if (metrics_) {
    MetricsRecord record(line.step);
    record.add("loss", line.loss);
    record.add("accuracy", line.accuracy);
    record.add("learning_rate", line.learning_rate);
    record.add("gradient_norm", line.gradient_norm);
    record.add("param_norm", line.param_norm);
    record.add_object(batch.metrics);
    record.add("tokens_per_s", line.tokens_per_s);
    record.add("model_tflops", line.model_tflops);
    if (line.mfu) record.add("mfu", *line.mfu);
    if (line.exposed_comm) record.add("exposed_comm", *line.exposed_comm);
    record.add("memory_bytes", static_cast<std::int64_t>(line.memory_bytes));
    record.add("host_memory_bytes", static_cast<std::int64_t>(line.host_memory_bytes));
    if (line.eval_loss) record.add("eval_loss", *line.eval_loss);
    if (line.eval_accuracy) record.add("eval_accuracy", *line.eval_accuracy);
    metrics_->write(record);
  }
  if (console_) console_->print_line(format_step(line));
  if (!std::isfinite(line.loss)) {
    log_.warning(fmt::format("the loss of step {} is not a finite number", line.step));
  }
}

void StepReporter::print_line(const std::string& line) {
  if (console_) console_->print_line(line);
}

void StepReporter::show_progress(std::int64_t steps_done) {
  if (console_) console_->show_progress(steps_done, throughput_.seconds_per_step());
}

}  // namespace ringtrain
