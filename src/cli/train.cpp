#include "ringtrain/comm/job.h"
#include "ringtrain/train/trainer.h"
#include "subcommands.h"

namespace ringtrain {

int train_command(const Invocation& invocation) {
  return run_command(Command::kTrain, invocation,
                     [](World& world, const TrainConfig& config, const ConfigReport& report) {
                       Trainer trainer(world, config, report);
                       return run_job(world, [&] {
                         trainer.set_up();
                         return trainer.run();
                       });
                     });
}

}  // namespace ringtrain
