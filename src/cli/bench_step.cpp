// ringtrain bench step, ringtrain bench layer.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "bench_options.h"
#include "ringtrain/bench/step_bench.h"
#include "ringtrain/comm/job.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;
using Report = void (*)(const StepBench& bench, const StepTimes& times);

constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;

int time_steps(World& world, const TrainConfig& config, Report report) {
  StepBench bench(world, config);
  return run_job(world, [&] {
    const StepTimes times = bench.run();
    if (world.rank() == 0) report(bench, times);
    return 0;
  });
}

void print_header(const StepBench& bench) {
  const TrainConfig& config = bench.config();
  const JsonDatasetConfig& data = config.train_dataset.json_dataset;
  fmt::print(
      "{}\n{} layers of {}, {} x {} tokens, {}, remat_block {}; median of {} steps after {}\n",
      bench.description(), config.llama.num_hidden_layers, config.llama.hidden_size,
      data.batch_size, data.seq_length, config.dtype,
      config.llama.remat_block.empty() ? "everything_saveable" : config.llama.remat_block,
      config.bench.runs, config.bench.warmups);
}

Json json_of(const std::vector<StepPhase>& phases) {
  Json rows = Json::array();
  for (const StepPhase& phase : phases) {
    rows.push_back(
        {{"phase", phase.name}, {"depth", phase.depth}, {"count", phase.count}, {"ms", phase.ms}});
  }
  return rows;
}

/// The sizes that the FLOPs and bytes of a step follow from.
Json sizes_of(const TrainConfig& config) {
  const ModelConfig& model = config.llama;
  const JsonDatasetConfig& data = config.train_dataset.json_dataset;
  return {{"layers", model.num_hidden_layers}, {"hidden", model.hidden_size},
          {"ffn", model.intermediate_size},    {"heads", model.num_attention_heads},
          {"kv_heads", model.kv_heads()},      {"head_dim", model.head_size()},
          {"vocabulary", model.vocab_size},    {"seq_length", data.seq_length},
          {"batch", data.batch_size},          {"remat_block", model.remat_block}};
}

void report_step(const StepBench& bench, const StepTimes& times) {
  if (bench.config().json) {
    const Json row{{"sizes", sizes_of(bench.config())},
                   {"step_ms", times.step_ms},
                   {"host_ms", times.host_ms},
                   {"tokens_per_s", times.tokens_per_s},
                   {"model_tflops", times.model_tflops},
                   {"mfu", times.mfu},
                   {"arena_bytes", times.arena_bytes},
                   {"arena_peak_bytes", times.arena_peak_bytes},
                   {"host_bytes", times.host_bytes},
                   {"device_bytes", times.device_bytes},
                   {"loss", times.loss},
                   {"phases", json_of(times.phases)}};
    fmt::print("{}\n", row.dump());
    return;
  }
  print_header(bench);
  fmt::print(
      "{:.1f} ms a step, of which the host takes {:.1f}; {:.0f} tokens/s; {:.0f} model TFLOP/s, "
      "MFU "
      "{:.1f} %; arena {:.2f} GiB, device {:.2f} GiB in use; loss {:.4f}\n",
      times.step_ms, times.host_ms, times.tokens_per_s, times.model_tflops, 100 * times.mfu,
      static_cast<double>(times.arena_bytes) / kGibibyte,
      static_cast<double>(times.device_bytes) / kGibibyte, times.loss);
  fmt::print("{:<40}{:>6}{:>12}{:>9}\n", "phase of one more step", "count", "ms", "of step");
  for (const StepPhase& phase : times.phases) {
    fmt::print("{:<40}{:>6}{:>12.3f}{:>8.1f}%\n",
               std::string(2 * static_cast<std::size_t>(phase.depth), ' ') + phase.name,
               phase.count, phase.ms, 100 * phase.ms / times.step_ms);
  }
}

/// The phases of the layers: those named "... layer" and what is within them.
std::vector<StepPhase> layer_phases(const std::vector<StepPhase>& phases) {
  std::vector<StepPhase> layers;
  bool inside = false;
  for (const StepPhase& phase : phases) {
    if (phase.depth == 0) inside = phase.name.ends_with(" layer");
    if (inside) layers.push_back(phase);
  }
  return layers;
}

void report_layer(const StepBench& bench, const StepTimes& times) {
  const std::vector<StepPhase> layers = layer_phases(times.phases);
  if (bench.config().json) {
    fmt::print("{}\n", Json{{"phases", json_of(layers)}}.dump());
    return;
  }
  print_header(bench);
  fmt::print("{:<40}{:>14}\n", "of one step", "ms a layer");
  const auto num_layers = static_cast<double>(bench.config().llama.num_hidden_layers);
  for (const StepPhase& phase : layers) {
    fmt::print("{:<40}{:>14.3f}\n",
               std::string(2 * static_cast<std::size_t>(phase.depth), ' ') + phase.name,
               phase.ms / num_layers);
  }
}

}  // namespace

int bench_step(const Invocation& invocation) {
  return run_command(Command::kBench, invocation,
                     [](World& world, const TrainConfig& config, const ConfigReport&) {
                       return time_steps(world, config, report_step);
                     });
}

int bench_layer(const Invocation& invocation) {
  return run_command(Command::kBench, invocation,
                     [](World& world, const TrainConfig& config, const ConfigReport&) {
                       return time_steps(world, config, report_layer);
                     });
}

}  // namespace ringtrain
