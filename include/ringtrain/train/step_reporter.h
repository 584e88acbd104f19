#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "ringtrain/comm/world.h"
#include "ringtrain/config/train_config.h"
#include "ringtrain/core/log.h"
#include "ringtrain/data/batch_feeder.h"
#include "ringtrain/train/console.h"
#include "ringtrain/train/metrics.h"
#include "ringtrain/train/runtime.h"
#include "ringtrain/train/throughput.h"

namespace ringtrain {

/// Times a run and tells of the steps that are logged: in metrics.jsonl, on the console, and by the
/// progress bar. Rank 0 does; with --log_all_worker every other rank keeps a file of its own.
class StepReporter {
 public:
  using Clock = std::chrono::steady_clock;

  /// `first_step`: where the run begins or continues. The arguments must outlive this.
  /// Errors: IoError where a file cannot be written.
  StepReporter(World& world, Runtime& runtime, const TrainConfig& config, const Log& log,
               const std::filesystem::path& run_directory, std::int64_t first_step);

  /// From now on time is training time, from `step` on.
  void start(std::int64_t step);
  /// So much of the time since `start` was none: a save, a trace.
  void leave_out(Clock::duration time) { begin_ += time; }
  /// Collective, once the device has finished `line.step`: speed since `start`, exposed
  /// communication and memory, into `line`.
  void measure(StepReport& line, const LocalBatch& batch);
  /// Errors: IoError (disk full).
  void write(const StepReport& line, const LocalBatch& batch);

  /// For a person only.
  void print_line(const std::string& line);
  void show_progress(std::int64_t steps_done);

 private:
  double exposed_comm();

  World& world_;
  Runtime& runtime_;
  const TrainConfig& config_;
  const Log& log_;
  Throughput throughput_;
  std::optional<MetricsWriter> metrics_;
  std::optional<Console> console_;  // rank 0
  Clock::time_point begin_;
  std::int64_t first_step_;  // since `begin_`
};

}  // namespace ringtrain
