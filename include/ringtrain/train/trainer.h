#pragma once

#include <memory>

#include "ringtrain/comm/world.h"
#include "ringtrain/config/resolve.h"

namespace ringtrain {

/// A run as its command line asks for it. Constructed, set up and run by all ranks together.
///
///     Trainer trainer(world, config, report);
///     return run_job(world, [&] { trainer.set_up(); return trainer.run(); });
///
/// so that nothing is destroyed before run_job has decided how the job ends.
class Trainer {
 public:
  /// Looks at nothing yet. `report` is saved and printed beside the values.
  Trainer(World& world, TrainConfig config, ConfigReport report);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Collective: output directory, tokenizer, devices, memory, weights, data. Errors: all of them.
  void set_up();
  /// Collective: steps until total_steps, or until a signal asks to stop (after saving).
  /// Returns the exit code: kOk or kStoppedBySignal.
  int run();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringtrain
