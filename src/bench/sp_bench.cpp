#include "ringtrain/bench/sp_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "rank_attention.h"
#include "ringtrain/comm/watchdog.h"
#include "ringtrain/core/error.h"
#include "ringtrain/model/llama.h"
#include "ringtrain/train/runtime.h"
#include "stopwatch.h"

namespace ringtrain {
namespace {

std::vector<SequenceLayout> layouts_of(const TrainConfig& config, const MeshShape& shape) {
  return sequence_layouts(config.sp_layout, false, config.train_dataset.json_dataset.seq_length,
                          shape.sp, shape.ulysses);
}

AttentionWork work_of(const TrainConfig& config, const MeshShape& shape, SequenceLayout layout) {
  const ModelConfig& model = config.llama;
  return {std::move(layout),
          config.train_dataset.json_dataset.batch_size / shape.num_batch_shards(),
          model.num_attention_heads / shape.tp,
          std::max<std::int64_t>(model.kv_heads() / shape.tp, 1), model.head_size()};
}

SequenceAttentionOptions options_of(const TrainConfig& config) {
  return {.transport =
              config.llama.rotates_keys() ? KeyValueTransport::kRing : KeyValueTransport::kGather,
          .query_chunk_size = config.llama.scan_query_chunk_size,
          .key_chunk_size = config.llama.scan_key_chunk_size,
          .gradient_dtype = dtype_from_name(config.ring_gradient_dtype)};
}

/// A rank's share of the attention, and all of it on the same device.
struct Contenders {
  Contenders(Context& context, const TrainConfig& config)
      : alone_mesh(one_rank_mesh(context.device)),
        alone{context.device,        context.ops,  context.arena,   alone_mesh,
              context.compute,       context.ring, context.params,  context.beside,
              context.compute_dtype, context.host, context.to_host, context.to_device},
        share(context,
              work_of(config, context.mesh.shape, layouts_of(config, context.mesh.shape).front()),
              options_of(config)),
        whole(alone, work_of(config, context.mesh.shape, layouts_of(config, {}).front()),
              options_of(config)),
        start(context.arena.allocate({1}, DType::kFloat32, MemoryKind::kWorkspace)) {}

  void rehearse() {
    for (RankAttention* each : {&share, &whole}) {
      each->forward();
      each->backward();
    }
  }

  Mesh alone_mesh;
  Context alone;
  RankAttention share, whole;
  Tensor start;  // summed over the ranks before a pass, which they so begin together
};

SpPass operator+(const SpPass& a, const SpPass& b) {
  const double seconds = a.sp_s + b.sp_s;
  return {seconds, a.whole_s + b.whole_s,
          (a.waiting_share * a.sp_s + b.waiting_share * b.sp_s) / seconds};
}

double largest(const std::vector<double>& values) {
  return *std::ranges::max_element(values);
}
double smallest(const std::vector<double>& values) {
  return *std::ranges::min_element(values);
}

}  // namespace

SpPass SpTimes::both() const {
  return forward + backward;
}

class SpBench::Impl {
 public:
  Impl(World& world, TrainConfig config) : world_(world), config_(std::move(config)) {}

  SpTimes run();
  std::string description() const { return description_; }
  MeshShape mesh() const { return runtime_->mesh().shape; }
  std::string layout() const {
    return std::string(name_of(layouts_of(config_, runtime_->mesh().shape).front().kind()));
  }

 private:
  using Pass = void (RankAttention::*)();
  void set_up();
  Stream& compute() { return runtime_->context().compute; }
  void begin_together();
  void time_round();
  double waiting_share(Pass pass);
  double over_ranks(double value, double (*choose)(const std::vector<double>&));
  SpPass result(Stopwatch& share, Stopwatch& whole, Pass pass);

  World& world_;
  TrainConfig config_;
  std::optional<Runtime> runtime_;
  std::optional<Watchdog> watchdog_;
  std::optional<Contenders> contenders_;
  std::optional<Stopwatch> share_forward_, share_backward_, whole_forward_, whole_backward_;
  std::string description_;
};

void SpBench::Impl::set_up() {
  const int sp = mesh_shape_of(config_, world_.size()).sp;
  if (sp == 1) {
    throw InvalidArgument(
        "bench sp needs an sp axis of several ranks, such as --mesh_dim=1,1,1,-1");
  }
  if (config_.packing == "documents" || !config_.trace.empty()) {
    throw InvalidArgument("bench sp takes neither --packing=documents nor --trace");
  }
  runtime_.emplace(world_, config_);
  watchdog_.emplace(world_, config_.timeout_s);
  watch_runtime(*watchdog_, *runtime_);
  runtime_->allocate([&](Context& meta) { Contenders(meta, config_).rehearse(); });
  contenders_.emplace(runtime_->context(), config_);
  contenders_->share.draw_inputs();
  contenders_->whole.draw_inputs();
  runtime_->context().ops.fill(contenders_->start, 0, compute());
  for (auto* watch : {&share_forward_, &share_backward_, &whole_forward_, &whole_backward_}) {
    watch->emplace(runtime_->device());
  }
  description_ =
      fmt::format("{}; {}", runtime_->device().name(), runtime_->context().ops.description());
}

void SpBench::Impl::begin_together() {
  runtime_->mesh().param->all_reduce(contenders_->start, ReduceOp::kSum, compute());
}

// The clock of a device at its limit of power follows what it has done in the last tenth of a
// second: both sides of the comparison take about as long.
void SpBench::Impl::time_round() {
  RankAttention& share = contenders_->share;
  RankAttention& whole = contenders_->whole;
  whole_forward_->time(compute(), [&] { whole.forward(); });
  whole_backward_->time(compute(), [&] { whole.backward(); });
  for (int i = 0; i < runtime_->mesh().shape.sp; ++i) {
    begin_together();
    share_forward_->time(compute(), [&] { share.forward(); });
    begin_together();
    share_backward_->time(compute(), [&] { share.backward(); });
  }
  compute().synchronise();
}

double SpBench::Impl::waiting_share(Pass pass) {
  constexpr int kRuns = 3;
  std::vector<double> shares;
  for (int i = 0; i < kRuns; ++i) {
    contenders_->whole.forward();  // the host gets ahead meanwhile
    begin_together();
    // On the CPU waiting is the host's: that for the others to begin would count.
    if (runtime_->device().type() == DeviceType::kCpu) compute().synchronise();
    runtime_->trace().start(StreamTrace::Detail::kExposed);
    (contenders_->share.*pass)();
    runtime_->trace().stop();
    shares.push_back(runtime_->trace().exposed_share());
  }
  return median(std::move(shares));
}

double SpBench::Impl::over_ranks(double value, double (*choose)(const std::vector<double>&)) {
  std::vector<double> values;
  for (const std::string& text : world_.all_gather(fmt::format("{}", value))) {
    values.push_back(std::stod(text));
  }
  return choose(values);
}

SpPass SpBench::Impl::result(Stopwatch& share, Stopwatch& whole, Pass pass) {
  const int sp = runtime_->mesh().shape.sp;
  const auto skipped = static_cast<std::size_t>(config_.bench.warmups);
  return {over_ranks(share.median_s(skipped * static_cast<std::size_t>(sp)), largest),
          over_ranks(whole.median_s(skipped) / sp, smallest),
          over_ranks(waiting_share(pass), largest)};
}

SpTimes SpBench::Impl::run() {
  set_up();
  for (std::int64_t i = 0; i < config_.bench.warmups + config_.bench.runs; ++i) {
    watchdog_->progress(i, "attention");
    time_round();
  }
  const SpTimes times{result(*share_forward_, *whole_forward_, &RankAttention::forward),
                      result(*share_backward_, *whole_backward_, &RankAttention::backward)};
  watchdog_->shutdown();
  return times;
}

SpBench::SpBench(World& world, TrainConfig config)
    : impl_(std::make_unique<Impl>(world, std::move(config))) {}
SpBench::~SpBench() = default;
SpTimes SpBench::run() {
  return impl_->run();
}
std::string SpBench::description() const {
  return impl_->description();
}
MeshShape SpBench::mesh() const {
  return impl_->mesh();
}
std::string SpBench::layout() const {
  return impl_->layout();
}

}  // namespace ringtrain
