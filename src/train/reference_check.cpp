#include "ringtrain/train/reference_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "ringtrain/checkpoint/hf_checkpoint.h"
#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/checkpoint/shard_copy.h"
#include "ringtrain/config/validate.h"
#include "ringtrain/core/error.h"
#include "ringtrain/data/cut_batch.h"
#include "ringtrain/parallel/tensor_ranges.h"
#include "ringtrain/train/engine.h"
#include "ringtrain/train/fitting_remat.h"
#include "ringtrain/train/runtime.h"

namespace ringtrain {
namespace {

/// Sums from which an error over all ranks is formed.
struct ErrorSum {
  double largest = 0;
  double error_squares = 0;
  double expected_squares = 0;

  void add(double actual, double expected) {
    const double error = std::abs(actual - expected);
    // A NaN must not get lost in max.
    largest = std::isnan(error) || error > largest ? error : largest;
    error_squares += error * error;
    expected_squares += expected * expected;
  }
  void add(const ErrorSum& other) {
    largest = std::isnan(other.largest) || other.largest > largest ? other.largest : largest;
    error_squares += other.error_squares;
    expected_squares += other.expected_squares;
  }
  double relative() const {
    if (error_squares == 0) return 0;
    return std::sqrt(error_squares / expected_squares);
  }
};

/// Collective: element-wise over equally long vectors of all ranks.
void sum_over_ranks(World& world, std::vector<ErrorSum>& sums) {
  std::string bytes(sums.size() * sizeof(ErrorSum), '\0');
  std::memcpy(bytes.data(), sums.data(), bytes.size());
  std::vector<ErrorSum> total(sums.size());
  for (const std::string& part : world.all_gather(bytes)) {
    std::vector<ErrorSum> other(sums.size());
    std::memcpy(other.data(), part.data(), part.size());
    for (std::size_t i = 0; i < total.size(); ++i) total[i].add(other[i]);
  }
  sums = std::move(total);
}

GlobalBatch read_batch(const SafetensorsReader& file) {
  const Shape& shape = file.entry("input_tokens").shape;
  if (shape.rank() != 2) {
    throw IoError(fmt::format("{}: input_tokens has shape {}, expected [batch, tokens]",
                              file.path().string(), shape.to_string()));
  }
  GlobalBatch batch;
  batch.batch_size = shape[0];
  batch.seq_length = shape[1];
  const auto tokens = [&](const char* name) {
    const std::vector<std::int64_t> values = file.ints(name);
    if (static_cast<std::int64_t>(values.size()) != shape.num_elements()) {
      throw IoError(fmt::format("{}: {} is not {}", file.path().string(), name, shape.to_string()));
    }
    return std::vector<std::int32_t>(values.begin(), values.end());
  };
  batch.inputs = tokens("input_tokens");
  batch.targets = tokens("target_tokens");
  batch.loss_masks = file.floats("loss_masks");
  if (batch.loss_masks.size() != batch.inputs.size()) {
    throw IoError(fmt::format("{}: loss_masks is not {}", file.path().string(), shape.to_string()));
  }
  batch.document_starts.assign(batch.inputs.size(), 0);
  return batch;
}

}  // namespace

class ReferenceCheck::Impl {
 public:
  Impl(World& world, TrainConfig config, const std::filesystem::path& reference,
       const ReferenceTolerances& tolerances)
      : world_(world),
        config_(std::move(config)),
        file_(reference),
        batch_(read_batch(file_)),
        tolerances_(tolerances) {}

  std::vector<ReferenceError> run() {
    set_up();
    engine_->evaluate(local_, logits_);
    compare_logits();
    engine_->zero_totals();
    engine_->train(local_);
    const Engine::Totals totals = engine_->read_totals();
    compare_values("loss", {totals.loss / local_.denominator}, tolerances_.tolerance);
    compare_values("accuracy", {totals.correct / local_.denominator}, tolerances_.tolerance);
    engine_->parameters().finish_gradients();
    compare_family("grad.", engine_->parameters().gradients(), 1 / local_.denominator,
                   tolerances_.tolerance);
    if (file_.find("train.loss") != nullptr) compare_training();
    watchdog_->shutdown();
    return std::move(results_);
  }

 private:
  void set_up();
  void compare_logits();
  void compare_values(const std::string& name, const std::vector<double>& actual, double tolerance);
  void compare_family(const std::string& prefix, const ShardFamily& family, double scale,
                      double tolerance);
  void compare_training();
  void finish(const std::vector<std::string>& names, std::vector<ErrorSum> sums, double tolerance);

  World& world_;
  TrainConfig config_;
  SafetensorsReader file_;
  GlobalBatch batch_;
  ReferenceTolerances tolerances_;
  std::optional<Runtime> runtime_;
  std::optional<Engine> engine_;
  std::optional<Watchdog> watchdog_;
  LocalBatch local_;
  Tensor logits_;
  std::vector<ReferenceError> results_;
};

void ReferenceCheck::Impl::set_up() {
  const CheckpointSource source = parse_load_checkpoint(config_.load_checkpoint);
  if (source.kind != CheckpointSource::Kind::kParams) {
    throw InvalidArgument("verify needs --load_checkpoint=params::DIR, a Hugging Face directory");
  }
  for (DatasetConfig* data : {&config_.train_dataset, &config_.eval_dataset}) {
    data->json_dataset.batch_size = batch_.batch_size;
    data->json_dataset.seq_length = batch_.seq_length;
  }
  check_token_ids(batch_, config_.llama.vocab_size);
  config_.loss_reduction = "sequence";  // the file's
  config_.packing = "none";
  config_.optimizer = {};
  config_.optimizer.adamw_optimizer.weight_decay = 0.1;

  runtime_.emplace(world_, config_);
  const EngineJobs jobs{.train = true, .evaluate = true};
  fit_remat(*runtime_, jobs, config_);
  const auto lay_out = [&](Context& context, std::optional<Engine>& engine) {
    engine.emplace(context, config_, jobs);
    const Shape& table = engine->table().units()[0].segments[0].local_shape;
    const ModelRunner& runner = engine->evaluator();
    return context.arena.allocate(
        {runner.batch_rows() * runner.layouts().front().local_length(), table[0]},
        context.compute_dtype, MemoryKind::kWorkspace);
  };
  runtime_->allocate([&](Context& meta) {
    std::optional<Engine> engine;
    lay_out(meta, engine);
    engine->rehearse();
  });
  logits_ = lay_out(runtime_->context(), engine_);
  watchdog_.emplace(world_, config_.timeout_s);
  watchdog_->take_time(0, "comparing with the reference");
  watch_runtime(*watchdog_, *runtime_);
  load_hf_parameters(source.path, engine_->table(), runtime_->context(),
                     engine_->parameters().masters());
  engine_->parameters().refresh_compute_weights();
  const Mesh& mesh = runtime_->mesh();
  local_ = cut_batch(batch_, engine_->trainer().layouts().front(), mesh.batch_shard(),
                     mesh.shape.num_batch_shards(), mesh.coordinates.sp,
                     {LossReduction::kSequence, false});
}

void ReferenceCheck::Impl::finish(const std::vector<std::string>& names, std::vector<ErrorSum> sums,
                                  double tolerance) {
  sum_over_ranks(world_, sums);
  for (std::size_t i = 0; i < names.size(); ++i) {
    results_.push_back({names[i], sums[i].largest, sums[i].relative(), tolerance});
  }
}

void ReferenceCheck::Impl::compare_logits() {
  const Mesh& mesh = runtime_->mesh();
  const SafetensorsReader::Entry& entry = file_.entry("logits");
  const Segment& table = engine_->table().units()[0].segments[0];
  const TpSlice vocabulary = tp_slice(table, mesh.coordinates.tp, mesh.shape.tp);
  if (entry.shape != Shape({batch_.batch_size, batch_.seq_length, table.shape[0]})) {
    throw IoError(fmt::format("{}: logits {} of a model with vocabulary {}", file_.path().string(),
                              entry.shape.to_string(), table.shape[0]));
  }
  const std::vector<std::int32_t> positions =
      engine_->trainer().layouts().front().positions(mesh.coordinates.sp);
  ShardCopy copy(runtime_->device(), runtime_->context().compute);
  const std::vector<float> actual = copy.download(logits_, 0, logits_.num_elements());
  std::vector<float> expected(static_cast<std::size_t>(table.shape[0]));
  const auto tokens = static_cast<std::int64_t>(positions.size());
  ErrorSum sum;
  for (std::int64_t row = 0; row < logits_.size(0); ++row) {
    const std::int64_t sequence =
        mesh.batch_shard() * engine_->trainer().batch_rows() + row / tokens;
    const std::int64_t position = positions[static_cast<std::size_t>(row % tokens)];
    file_.read_floats(entry, (sequence * batch_.seq_length + position) * table.shape[0],
                      table.shape[0], expected.data());
    for (std::int64_t i = 0; i < vocabulary.count; ++i) {
      sum.add(actual[static_cast<std::size_t>(row * logits_.size(1) + i)],
              expected[static_cast<std::size_t>(vocabulary.first + i)]);
    }
  }
  finish({"logits"}, {sum}, tolerances_.tolerance);
}

// Values that every rank knows; one of them speaks.
void ReferenceCheck::Impl::compare_values(const std::string& name,
                                          const std::vector<double>& actual, double tolerance) {
  const std::vector<float> expected = file_.floats(name);
  if (expected.size() != actual.size()) {
    throw IoError(fmt::format("{}: {} has {} elements, expected {}", file_.path().string(), name,
                              expected.size(), actual.size()));
  }
  ErrorSum sum;
  if (world_.rank() == 0) {
    for (std::size_t i = 0; i < actual.size(); ++i) sum.add(actual[i], expected[i]);
  }
  finish({name}, {sum}, tolerance);
}

// Every element counts once: replicas and replicated tensors are left to the first rank.
void ReferenceCheck::Impl::compare_family(const std::string& prefix, const ShardFamily& family,
                                          double scale, double tolerance) {
  const Mesh& mesh = runtime_->mesh();
  const ParameterTable& table = engine_->table();
  ShardCopy copy(runtime_->device(), runtime_->context().compute);
  std::vector<std::string> names(static_cast<std::size_t>(table.num_tensors()));
  std::vector<ErrorSum> sums(names.size());
  for (std::size_t u = 0; u < table.units().size(); ++u) {
    const ParameterUnit& unit = table.units()[u];
    for (const Segment& segment : unit.segments) {
      names[static_cast<std::size_t>(segment.index)] = prefix + segment.name;
    }
    for (const SegmentRun& run : segment_runs(table, unit, mesh.param->rank())) {
      const Segment& segment = *run.segment;
      const bool counted = segment.split != TpSplit::kReplicated || mesh.coordinates.tp == 0;
      if (!counted || mesh.coordinates.dp != 0) continue;
      const SafetensorsReader::Entry& entry = file_.entry(prefix + segment.name);
      if (entry.shape != segment.shape) {
        throw IoError(fmt::format("{}: {} is {}, the model has {}", file_.path().string(),
                                  entry.name, entry.shape.to_string(), segment.shape.to_string()));
      }
      const std::vector<float> actual = copy.download(family, u, run.shard_begin, run.count);
      std::vector<float> expected(actual.size());
      std::int64_t at = 0;
      for (const TensorRange& range : tensor_ranges(run, mesh.coordinates.tp, mesh.shape.tp)) {
        file_.read_floats(entry, range.whole_begin, range.count, expected.data() + at);
        at += range.count;
      }
      ErrorSum& sum = sums[static_cast<std::size_t>(segment.index)];
      for (std::size_t i = 0; i < actual.size(); ++i) sum.add(actual[i] * scale, expected[i]);
    }
  }
  finish(names, std::move(sums), tolerance);
}

void ReferenceCheck::Impl::compare_training() {
  engine_->parameters().drop_gradients();
  std::vector<double> losses;
  std::vector<double> norms;
  for (const float rate : file_.floats("train.learning_rate")) {
    engine_->zero_totals();
    engine_->train(local_);
    losses.push_back(engine_->read_totals().loss / local_.denominator);
    engine_->optimizer().fix_learning_rate(rate);
    engine_->update(local_.denominator);
    norms.push_back(engine_->read_gradient_norm());
  }
  compare_values("train.loss", losses, tolerances_.train_tolerance);
  compare_values("train.gradient_norm", norms, tolerances_.train_tolerance);
  compare_family("train.param.", engine_->parameters().masters(), 1.0, tolerances_.train_tolerance);
}

ReferenceCheck::ReferenceCheck(World& world, TrainConfig config, std::filesystem::path reference,
                               ReferenceTolerances tolerances)
    : impl_(std::make_unique<Impl>(world, std::move(config), std::move(reference), tolerances)) {}
ReferenceCheck::~ReferenceCheck() = default;

std::vector<ReferenceError> ReferenceCheck::run() {
  return impl_->run();
}

}  // namespace ringtrain
