#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "ringtrain/comm/world.h"
#include "ringtrain/config/train_config.h"
#include "ringtrain/core/stream_trace.h"

/// Timing of training steps: the run that the configuration describes, on random tokens.
namespace ringtrain {

/// Equally named regions of a step's compute stream within equally named ones: all "attention
/// backward" within "backward layer". Numbers at the end of names do not count.
struct StepPhase {
  std::string name;
  int depth;  ///< 0: within no other region
  int count;
  double ms;  ///< of all of them
};
/// In the order in which they begin. Regions on other streams are left out.
std::vector<StepPhase> step_phases(const std::vector<StreamTrace::Timed>& regions);

struct StepTimes {
  double step_ms;  ///< median of the timed steps, each from an idle device to an idle device
  double host_ms;  ///< median of what the host takes of that to enqueue the step
  std::vector<StepPhase> phases;  ///< of one more step of rank 0, whose regions are timed
  double loss;                    ///< of that step
  double tokens_per_s;            ///< of all ranks
  double model_tflops;            ///< a second and device (train/flops.h)
  double mfu;                     ///< share of the device's peak; 0 where that is unknown
  std::size_t arena_bytes;        ///< device memory of the fullest rank
  std::size_t arena_peak_bytes;   ///< the most of its arena that rank 0 has used
  std::size_t host_bytes;         ///< pinned host memory of the fullest rank
  std::size_t device_bytes;       ///< of rank 0's device that are in use, by whomever
};

/// Constructed and run by all ranks together; must outlive run_job (comm/job.h).
class StepBench {
 public:
  StepBench(World& world, TrainConfig config);
  ~StepBench();
  StepBench(const StepBench&) = delete;
  StepBench& operator=(const StepBench&) = delete;

  /// Errors: those of Runtime and Engine.
  StepTimes run();
  /// What computes, for the table. Valid after `run`.
  std::string description() const;
  /// With remat_block as it was chosen. Valid after `run`.
  const TrainConfig& config() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringtrain
