// Training steps in which rank 1 gets a signal at a named place; stuck_rank_test.cpp runs them
// under mpirun and looks at what the others print.
//
//     stuck_rank_scenarios MESH SP_TYPE SIGNAL PLACE DIRECTORY
//
// PLACE is part of the name of a region of the step, or "saving"; the save goes to DIRECTORY.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "ringtrain/checkpoint/checkpoint_folder.h"
#include "ringtrain/checkpoint/train_state.h"
#include "ringtrain/comm/job.h"
#include "ringtrain/comm/watchdog.h"
#include "ringtrain/core/error.h"
#include "ringtrain/data/cut_batch.h"
#include "ringtrain/train/engine.h"
#include "ringtrain/train/runtime.h"
#include "support/tiny_run.h"

namespace ringtrain {
namespace {

constexpr double kTimeout = 3;  // seconds
constexpr int kLastStep = 2;    // in which it happens

/// What rank 1 does: first its watchdog tells the others where it is.
void stop(int signal) {
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  std::raise(signal);
}

class StopAt final : public StepObserver {
 public:
  StopAt(std::string place, int signal) : place_(std::move(place)), signal_(signal) {}
  void begin(Stream&, const Label& label) override {
    if (is_armed && label.to_string().find(place_) != std::string::npos) stop(signal_);
  }
  void end(Stream&) override {}

  bool is_armed = false;

 private:
  std::string place_;
  int signal_;
};

int run(World& world, const std::string& mesh, const std::string& sp_type, int signal,
        const std::string& place, const std::string& directory) {
  const TinyRun tiny{.name = "stuck", .sp_type = sp_type};
  TrainConfig config = tiny_config(tiny);
  config.mesh_dim = mesh;
  config.device = "cpu";
  Runtime runtime(world, config);
  const EngineJobs jobs{.train = true, .evaluate = false};
  runtime.allocate([&](Context& meta) { Engine(meta, config, jobs).rehearse(); });
  StopAt stop_at(place, signal);
  StepObservers observers;
  observers.add(*runtime.context().observer);
  observers.add(stop_at);
  Context context = runtime.context();
  context.observer = &observers;
  Engine engine(context, config, jobs);
  engine.parameters().initialise(1, config.llama.initializer_range);
  Watchdog watchdog(world, kTimeout);
  watch_runtime(watchdog, runtime);

  return run_job(world, [&] {
    const Mesh& at = runtime.mesh();
    for (int step = 0; step <= kLastStep; ++step) {
      runtime.marks().set_step(step);
      watchdog.progress(step, "forward and backward");
      stop_at.is_armed = step == kLastStep && world.rank() == 1;
      const LocalBatch batch =
          cut_batch(tiny_batch(tiny, step), engine.trainer().layouts().front(), at.batch_shard(),
                    at.shape.num_batch_shards(), at.coordinates.sp, {LossReduction::kToken, false});
      engine.zero_totals();
      engine.train(batch);
      engine.update(batch.denominator);
    }
    engine.read_totals();
    watchdog.take_time(kLastStep, "saving");
    save_checkpoint(world, directory, kLastStep, /*keep=*/true,
                    [&](const std::filesystem::path& folder) {
                      if (place == "saving" && world.rank() == 1) stop(signal);
                      write_train_state(world, folder, engine.table(), context,
                                        {engine.parameters().masters()}, "{}");
                    });
    watchdog.shutdown();
    return 0;
  });
}

}  // namespace
}  // namespace ringtrain

/// Under the address sanitizer: MPI and OpenBLAS leak what they keep for the whole process.
extern "C" const char* __asan_default_options();
const char* __asan_default_options() {
  return "detect_leaks=0";
}

int main(int argc, char** argv) {
  using namespace ringtrain;
  try {
    const std::unique_ptr<World> world = initialise_world(&argc, &argv);
    return run_job(*world, [&] {
      return run(*world, argv[1], argv[2], std::atoi(argv[3]), argv[4], argv[5]);
    });
  } catch (const Error& error) {
    std::fprintf(stderr, "ringtrain: %s\n", error.what());
    return error.exit_code();
  }
}
