#pragma once

#include <optional>
#include <string>

#include "ringtrain/comm/watchdog.h"
#include "ringtrain/comm/world.h"
#include "ringtrain/config/train_config.h"
#include "ringtrain/parallel/selftest.h"
#include "ringtrain/train/runtime.h"

namespace ringtrain {

/// The short form takes about a second, for the start of every run; the full form moves more bytes,
/// more often.
enum class SelftestForm { kShort, kFull };

/// The self-test of a run on `shape`, with the attention block of batches of `dataset`. Of a block
/// that takes too long some heads are timed, or none.
SelftestOptions selftest_options(const TrainConfig& config, const DatasetConfig& dataset,
                                 const MeshShape& shape, DeviceType type, SelftestForm form);

/// Collective, before the runtime's memory is allocated. What a run of several ranks begins with,
/// unless --selftest=off: the table of the short form, for the log; empty without one.
/// Errors: on all ranks, with ExitCode::kCheckFailed and the table, if something is wrong.
std::string run_short_selftest(World& world, Runtime& runtime, const TrainConfig& config,
                               const DatasetConfig& dataset);

/// `ringtrain selftest`. An object, so that devices outlive the run_job around `run` (comm/job.h).
class SelftestRun {
 public:
  SelftestRun(World& world, TrainConfig config);
  ~SelftestRun();
  SelftestRun(const SelftestRun&) = delete;
  SelftestRun& operator=(const SelftestRun&) = delete;

  struct Outcome {
    bool passes;
    std::string table;  ///< rank map, findings, verdict
  };
  /// Collective. Errors: those of Runtime.
  Outcome run();

 private:
  World& world_;
  TrainConfig config_;
  std::optional<Runtime> runtime_;
  std::optional<Watchdog> watchdog_;
};

}  // namespace ringtrain
