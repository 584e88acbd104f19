// main of the tests that run under mpirun. Every rank runs the same tests; rank 0 prints as usual,
// the others only their failures, and every rank fails if one does.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>

#include "ringtrain/comm/world.h"
#include "ringtrain/core/error.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

constexpr int kFailed = 1;

/// Ends the job if it still lives after a while: ranks that left a failed test early must not
/// leave the others inside its collectives.
class Deadline {
 public:
  Deadline(World& world, const char* test)
      : thread_([this, &world, test] {
          std::unique_lock lock(mutex_);
          if (over_.wait_for(lock, std::chrono::seconds(30), [this] { return is_over_; })) return;
          std::fprintf(stderr, "[rank %d] failed %s, in which other ranks are stuck\n",
                       world.rank(), test);
          world.abort(kFailed);
        }) {}
  ~Deadline() {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    over_.notify_one();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable over_;
  bool is_over_ = false;
  std::thread thread_;  // last: it uses the others
};

/// Lets the ranks meet after every test.
class MeetAfterTest : public ::testing::EmptyTestEventListener {
 public:
  explicit MeetAfterTest(World& world) : world_(world) {}
  void OnTestEnd(const ::testing::TestInfo& info) override {
    std::unique_ptr<Deadline> deadline;
    if (info.result()->Failed()) deadline = std::make_unique<Deadline>(world_, info.name());
    world_.barrier();
  }

 private:
  World& world_;
};

/// The printer of ranks above 0.
class FailurePrinter : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "[rank %d] %s:%d: %s\n", rank_,
                 result.file_name() == nullptr ? "unknown file" : result.file_name(),
                 result.line_number(), result.message());
  }

 private:
  int rank_;
};

int run_tests(int argc, char** argv) {
  const std::unique_ptr<World> world = initialise_world(&argc, &argv);
  ::testing::InitGoogleTest(&argc, argv);
  const std::unique_ptr<World> meeting = world->duplicate();
  set_test_world(*world);
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (world->rank() > 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(world->rank()));
  }
  listeners.Append(new MeetAfterTest(*meeting));
  const bool failed = RUN_ALL_TESTS() != 0;
  if (!meeting->any(failed)) return 0;
  if (world->rank() == 0 && !failed) std::fprintf(stderr, "[  FAILED  ] on another rank\n");
  return kFailed;
}

}  // namespace
}  // namespace ringtrain

int main(int argc, char** argv) {
  try {
    return ringtrain::run_tests(argc, argv);
  } catch (const ringtrain::Error& error) {
    std::fprintf(stderr, "ringtrain: %s\n", error.what());
    return error.exit_code();
  }
}
