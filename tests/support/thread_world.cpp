#include "support/thread_world.h"

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

namespace ringtrain {
namespace {

/// Thrown in ranks that wait for one that has failed.
struct PeerFailed : std::runtime_error {
  PeerFailed() : std::runtime_error("another rank failed") {}
};

/// What the ranks share.
struct Plane {
  explicit Plane(int ranks) : size(ranks), slots(static_cast<std::size_t>(ranks)) {}

  template <typename Predicate>
  void wait(std::unique_lock<std::mutex>& lock, Predicate predicate) {
    changed.wait(lock, [&] { return failed || predicate(); });
    if (!predicate()) throw PeerFailed();
  }

  void barrier() {
    std::unique_lock lock(mutex);
    const int own = generation;
    if (++arrived == size) {
      arrived = 0;
      ++generation;
      changed.notify_all();
    }
    wait(lock, [&] { return generation != own; });
  }

  const int size;
  std::mutex mutex;
  std::condition_variable changed;
  bool failed = false;
  int arrived = 0;
  int generation = 0;
  std::vector<std::string> slots;
  std::map<std::pair<int, int>, std::deque<std::string>> messages;  // by (from, to)
};

class ThreadWorld final : public World {
 public:
  ThreadWorld(Plane& plane, int rank) : plane_(plane), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return plane_.size; }
  int local_rank() const override { return rank_; }
  int local_size() const override { return plane_.size; }
  const std::string& host_name() const override { return host_name_; }

  void barrier() override { plane_.barrier(); }
  std::vector<std::string> all_gather(const std::string& bytes) override {
    plane_.slots[static_cast<std::size_t>(rank_)] = bytes;
    plane_.barrier();
    std::vector<std::string> gathered = plane_.slots;
    plane_.barrier();
    return gathered;
  }
  std::string broadcast(std::string bytes, int root) override {
    return all_gather(bytes)[static_cast<std::size_t>(root)];
  }
  bool any(bool value) override {
    for (const std::string& flag : all_gather(value ? "1" : "")) {
      if (!flag.empty()) return true;
    }
    return false;
  }
  void send(const std::string& bytes, int to) override {
    const std::lock_guard lock(plane_.mutex);
    plane_.messages[{rank_, to}].push_back(bytes);
    plane_.changed.notify_all();
  }
  void finish_sends() override {}  // taken when sent
  std::string receive(int from) override {
    std::unique_lock lock(plane_.mutex);
    auto& queue = plane_.messages[{from, rank_}];
    plane_.wait(lock, [&] { return !queue.empty(); });
    std::string bytes = std::move(queue.front());
    queue.pop_front();
    return bytes;
  }

  bool post(std::string, int) override { throw std::logic_error("no posts between threads"); }
  std::optional<Posted> poll() override { return std::nullopt; }
  std::unique_ptr<World> duplicate() override { throw std::logic_error("threads have one plane"); }
  std::unique_ptr<Communicator> make_communicator(Device&) override {
    throw std::logic_error("threads have no communicator for tensors");
  }
  [[noreturn]] void abort(int) noexcept override { std::abort(); }

 private:
  Plane& plane_;
  int rank_;
  std::string host_name_ = "threads";
};

}  // namespace

void run_ranks(int num_ranks, const std::function<void(World&)>& body) {
  Plane plane(num_ranks);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(num_ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadWorld world(plane, rank);
      try {
        body(world);
      } catch (const PeerFailed&) {  // the peer's own exception says more
      } catch (...) {
        errors[static_cast<std::size_t>(rank)] = std::current_exception();
        const std::lock_guard lock(plane.mutex);
        plane.failed = true;
        plane.changed.notify_all();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace ringtrain
