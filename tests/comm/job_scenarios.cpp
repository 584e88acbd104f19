// One way for a job to end per name; job_test.cpp runs them under mpirun and looks at output and
// exit code.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>

#include "ringtrain/comm/job.h"
#include "ringtrain/comm/watchdog.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using std::chrono::seconds;

void sleep_for_ever() {
  while (true) std::this_thread::sleep_for(seconds(1));
}

/// A step that rank 1 never finishes; the others wait for it in a collective.
int stand_still(World& world, const std::function<void()>& stop) {
  Watchdog watchdog(world, 2);
  watchdog.progress(11, "forward layer 0");
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  watchdog.progress(12, "backward layer 3");
  if (world.rank() == 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    stop();
  } else {
    std::this_thread::sleep_for(seconds(1));
    watchdog.progress(12, "backward layer 2");
  }
  world.barrier();
  return 0;
}

/// Rank 1 takes longer than the timeout to end; the others are done before.
int end_late(World& world) {
  Watchdog watchdog(world, 2);
  if (world.rank() == 1) {
    for (int i = 0; i < 30; ++i) {
      watchdog.progress(i, "save");
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  watchdog.shutdown();
  return 0;
}

int never_come_to_shutdown(World& world) {
  Watchdog watchdog(world, 1);
  watchdog.progress(7, "last step");
  if (world.rank() == 1) sleep_for_ever();
  watchdog.shutdown();
  return 0;
}

const std::map<std::string, std::function<int(World&)>> kScenarios{
    {"ok", [](World&) { return 0; }},
    {"code_75", [](World&) { return 75; }},
    {"same_error", [](World&) -> int { throw InvalidArgument("mesh_dim 1,1,1,3 needs 3 ranks"); }},
    {"same_error_at_different_times",
     [](World& world) -> int {
       std::this_thread::sleep_for(std::chrono::milliseconds(300 * world.rank()));
       throw IoError("no file train.jsonl");
     }},
    {"one_error",
     [](World& world) -> int {
       if (world.rank() == 1) throw IoError("disk full");
       world.barrier();
       return 0;
     }},
    {"two_errors",
     [](World& world) -> int {
       if (world.rank() == 1) throw IoError("disk full");
       if (world.rank() > 1) throw DeviceError("peer lost");
       sleep_for_ever();
       return 0;
     }},
    {"out_of_memory",
     [](World& world) -> int {
       if (world.rank() == 0) throw std::bad_alloc();
       world.barrier();
       return 0;
     }},
    {"nested",
     [](World& world) {
       return run_job(world, []() -> int { throw IoError("damaged checkpoint"); });
     }},
    {"stuck", [](World& world) { return stand_still(world, sleep_for_ever); }},
    {"stopped", [](World& world) { return stand_still(world, [] { std::raise(SIGSTOP); }); }},
    {"killed", [](World& world) { return stand_still(world, [] { std::raise(SIGKILL); }); }},
    {"end_late", end_late},
    {"never_come", never_come_to_shutdown},
};

}  // namespace
}  // namespace ringtrain

int main(int argc, char** argv) {
  using namespace ringtrain;
  try {
    const std::unique_ptr<World> world = initialise_world(&argc, &argv);
    return run_job(*world, [&] { return kScenarios.at(argv[1])(*world); });
  } catch (const Error& error) {
    std::fprintf(stderr, "ringtrain: %s\n", error.what());
    return error.exit_code();
  }
}
