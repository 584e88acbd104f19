#include "ringtrain/bench/step_bench.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <utility>

#include "ringtrain/bench/timing.h"
#include "ringtrain/comm/watchdog.h"
#include "ringtrain/core/random.h"
#include "ringtrain/data/cut_batch.h"
#include "ringtrain/train/engine.h"
#include "ringtrain/train/fitting_remat.h"
#include "ringtrain/train/flops.h"
#include "ringtrain/train/runtime.h"

namespace ringtrain {
namespace {

using Clock = std::chrono::steady_clock;

double ms_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - begin).count();
}

/// Uniform tokens, each row one document; every one counts.
GlobalBatch random_batch(const TrainConfig& config) {
  const JsonDatasetConfig& data = config.train_dataset.json_dataset;
  GlobalBatch batch;
  batch.batch_size = data.batch_size;
  batch.seq_length = data.seq_length;
  const auto vocabulary = static_cast<std::uint64_t>(config.llama.vocab_size);
  for (std::int64_t i = 0; i < data.batch_size * data.seq_length; ++i) {
    const auto words =
        philox4x32(static_cast<std::uint64_t>(config.seed), static_cast<std::uint64_t>(i));
    batch.inputs.push_back(static_cast<std::int32_t>(words[0] % vocabulary));
    batch.targets.push_back(static_cast<std::int32_t>(words[1] % vocabulary));
  }
  batch.loss_masks.assign(batch.inputs.size(), 1.0f);
  batch.document_starts.assign(batch.inputs.size(), 0);
  return batch;
}

std::string without_number(std::string name) {
  const std::size_t last = name.find_last_not_of("0123456789");
  if (last != std::string::npos && last + 1 < name.size() && name[last] == ' ') name.resize(last);
  return name;
}

}  // namespace

std::vector<StepPhase> step_phases(const std::vector<StreamTrace::Timed>& regions) {
  struct Open {
    std::size_t phase;
    double end_s;
  };
  std::vector<StepPhase> phases;
  std::vector<std::size_t> parents;  // by phase; its own index at depth 0
  std::vector<Open> open;
  for (const StreamTrace::Timed& region : regions) {
    if (region.stream != 0) continue;
    while (!open.empty() && open.back().end_s <= region.begin_s) open.pop_back();
    const std::string name = without_number(region.name);
    const auto depth = static_cast<int>(open.size());
    std::size_t phase = 0;
    while (phase < phases.size() &&
           !(phases[phase].name == name && phases[phase].depth == depth &&
             parents[phase] == (open.empty() ? phase : open.back().phase))) {
      ++phase;
    }
    if (phase == phases.size()) {
      phases.push_back({name, depth, 0, 0});
      parents.push_back(open.empty() ? phase : open.back().phase);
    }
    ++phases[phase].count;
    phases[phase].ms += (region.end_s - region.begin_s) * 1e3;
    open.push_back({phase, region.end_s});
  }
  return phases;
}

class StepBench::Impl {
 public:
  Impl(World& world, TrainConfig config) : world_(world), config_(std::move(config)) {}

  StepTimes run();
  const std::string& description() const { return description_; }
  const TrainConfig& config() const { return config_; }

 private:
  void set_up();
  void step();

  World& world_;
  TrainConfig config_;
  std::optional<Runtime> runtime_;
  std::optional<Engine> engine_;
  std::optional<Watchdog> watchdog_;
  LocalBatch batch_;
  std::int64_t num_steps_ = 0;
  std::string description_;
};

void StepBench::Impl::set_up() {
  runtime_.emplace(world_, config_);
  watchdog_.emplace(world_, config_.timeout_s);
  watch_runtime(*watchdog_, *runtime_);
  const EngineJobs jobs{.train = true, .evaluate = false};
  fit_remat(*runtime_, jobs, config_);
  runtime_->allocate([&](Context& meta) { Engine(meta, config_, jobs).rehearse(); });
  engine_.emplace(runtime_->context(), config_, jobs);
  engine_->parameters().initialise(static_cast<std::uint64_t>(config_.seed),
                                   config_.llama.initializer_range);
  description_ =
      fmt::format("{}; {}", runtime_->device().name(), runtime_->context().ops.description());
  const Mesh& mesh = runtime_->mesh();
  batch_ =
      cut_batch(random_batch(config_), engine_->trainer().layouts().front(), mesh.batch_shard(),
                mesh.shape.num_batch_shards(), mesh.coordinates.sp,
                {parse_loss_reduction(config_.loss_reduction), config_.packing == "documents"});
}

void StepBench::Impl::step() {
  watchdog_->progress(num_steps_, "forward and backward");
  runtime_->marks().set_step(num_steps_++);
  engine_->zero_totals();
  engine_->train(batch_);
  engine_->update(batch_.denominator);
}

StepTimes StepBench::Impl::run() {
  set_up();
  Stream& compute = runtime_->context().compute;
  for (std::int64_t i = 0; i < config_.bench.warmups; ++i) step();
  compute.synchronise();
  std::vector<double> steps;
  std::vector<double> hosts;
  for (std::int64_t i = 0; i < config_.bench.runs; ++i) {
    const auto begin = Clock::now();
    step();
    hosts.push_back(ms_between(begin, Clock::now()));
    compute.synchronise();
    steps.push_back(ms_between(begin, Clock::now()));
  }
  runtime_->trace().start(StreamTrace::Detail::kAll);
  step();
  runtime_->trace().stop();

  StepTimes times{};
  times.step_ms = median(steps);
  times.host_ms = median(hosts);
  times.phases = step_phases(runtime_->trace().regions());
  times.loss = engine_->read_totals().loss / batch_.denominator;
  const JsonDatasetConfig& data = config_.train_dataset.json_dataset;
  const auto tokens = static_cast<double>(data.batch_size * data.seq_length);
  times.tokens_per_s = tokens / times.step_ms * 1e3;
  const double flops =
      model_flops_per_token(config_.llama, static_cast<double>(data.seq_length) / 2);
  const double flops_per_s = times.tokens_per_s * flops / world_.size();
  times.model_tflops = flops_per_s * 1e-12;
  const double peak = runtime_->device().peak_flops();
  times.mfu = peak > 0 ? flops_per_s / peak : 0;
  times.arena_bytes = runtime_->fullest_rank_bytes();
  times.arena_peak_bytes = runtime_->context().arena.peak();
  times.host_bytes = runtime_->fullest_rank_host_bytes();
  const Device::MemoryInfo memory = runtime_->device().memory();
  times.device_bytes = memory.total_bytes - memory.free_bytes;
  watchdog_->shutdown();
  return times;
}

StepBench::StepBench(World& world, TrainConfig config)
    : impl_(std::make_unique<Impl>(world, std::move(config))) {}
StepBench::~StepBench() = default;
StepTimes StepBench::run() {
  return impl_->run();
}
std::string StepBench::description() const {
  return impl_->description();
}
const TrainConfig& StepBench::config() const {
  return impl_->config();
}

}  // namespace ringtrain
