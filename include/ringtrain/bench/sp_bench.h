#pragma once

#include <memory>
#include <string>

#include "ringtrain/comm/world.h"
#include "ringtrain/config/train_config.h"
#include "ringtrain/parallel/mesh.h"

/// Timing of one layer's attention over the sp axis of a run, on all its ranks and their links.
namespace ringtrain {

struct SpPass {
  double sp_s = 0;           ///< as in a training step; the slowest rank's
  double whole_s = 0;        ///< one kernel over the whole sequence, divided by the sp ranks
  double waiting_share = 0;  ///< of the compute stream, for communication; the largest of a rank
  double ratio() const { return whole_s / sp_s; }
};

struct SpTimes {
  SpPass forward, backward;
  SpPass both() const;
};

/// Constructed and run by all ranks together; must outlive run_job (comm/job.h).
class SpBench {
 public:
  SpBench(World& world, TrainConfig config);
  ~SpBench();
  SpBench(const SpBench&) = delete;
  SpBench& operator=(const SpBench&) = delete;

  /// Times passes by the device's clock: medians of bench.runs rounds after bench.warmups, in each
  /// of which every rank attends once to a whole sequence by itself, and as often as there are sp
  /// ranks to its share with the others. Inputs are random normal numbers.
  /// Errors: InvalidArgument without an sp axis and for what it does not do; those of Runtime.
  SpTimes run();
  /// The device and what computes, for the table. Valid after `run`, as the next two.
  std::string description() const;
  MeshShape mesh() const;
  /// The layout in use.
  std::string layout() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringtrain
