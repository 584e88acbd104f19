#include "ringtrain/comm/watchdog.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

/// How long ranks above the lowest wait for it to print and end the job.
constexpr Seconds kPatience(5);
constexpr std::chrono::milliseconds kTick(20);

/// What a rank says about itself; travels as it lies in memory, between equal processes.
struct Report {
  std::int64_t step = 0;
  double idle_s = 0;       // since its last progress, when it spoke
  std::uint32_t beat = 0;  // counts up: tells the newer of two reports
  std::int32_t is_done = 0;
  std::array<char, 256> phase{};
};

struct Peer {
  Report report;
  Clock::time_point heard = Clock::now();  // when the report was new here
};

}  // namespace

class Watchdog::Guard {
 public:
  Guard(World& world, double timeout_s)
      : plane_(world.duplicate()),
        timeout_(timeout_s),
        period_(std::clamp(timeout_s / 10, 0.05, 1.0)),
        silence_(std::max(1.0, 5 * period_.count())),
        peers_(static_cast<std::size_t>(world.size())),
        thread_([this] { run(); }) {}

  ~Guard() {
    {
      const std::lock_guard lock(mutex_);
      is_stopped_ = true;
    }
    join();
  }

  void progress(std::int64_t step, std::string_view phase, bool is_limited) {
    const std::lock_guard lock(mutex_);
    is_limited_ = is_limited;
    set_place(own_, step, phase);
    if (marks_ != nullptr) marks_before_ = marks_->num_marks();
    last_progress_ = Clock::now();
  }

  void watch(ProgressMarks& marks) {
    const std::lock_guard lock(mutex_);
    marks_ = &marks;
  }

  void watch(Communicator& group) {
    const std::lock_guard lock(mutex_);
    groups_.push_back(&group);
  }

  void shutdown() {
    {
      const std::lock_guard lock(mutex_);
      own_.is_done = 1;
      groups_.clear();
      marks_ = nullptr;
    }
    join();
  }

 private:
  void join() {
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

  void run() {
    try {
      Clock::time_point next_beat{};
      while (take_snapshot()) {
        look_at_the_device();
        const bool is_news = receive() || now_.is_done != peer(plane_->rank()).report.is_done;
        const auto now = Clock::now();
        if (is_news || now >= next_beat) {
          speak();
          next_beat = now + std::chrono::duration_cast<Clock::duration>(period_);
        }
        for (Communicator* group : watched_) group->check();
        if (!forgive_a_pause()) look_for_trouble();
        if (everyone_is_done()) return say_farewell();
        rest();
        forgive_a_pause();
      }
    } catch (const Error& error) {
      fmt::print(stderr, "ringtrain: [rank {}] {}\n", plane_->rank(), error.what());
      plane_->abort(error.exit_code());
    }
  }

  void rest() {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, kTick);
  }

  static void set_place(Report& report, std::int64_t step, std::string_view phase) {
    report.step = step;
    report.phase.fill('\0');
    std::copy_n(phase.begin(), std::min(phase.size(), report.phase.size()), report.phase.begin());
  }

  /// What the other threads have said; false if this one should end. The lock is held for this
  /// alone, so that `progress` never waits for messages.
  bool take_snapshot() {
    const std::lock_guard lock(mutex_);
    now_ = own_;
    now_.idle_s = is_limited_ ? Seconds(Clock::now() - last_progress_).count() : 0;
    watched_ = groups_;
    watched_marks_ = marks_;
    host_mark_ = marks_before_;
    return !is_stopped_;
  }

  /// The device is where the rank is, unless it has passed all marks before the host's last word.
  void look_at_the_device() {
    if (watched_marks_ == nullptr) return;
    const std::uint64_t passed = watched_marks_->poll();
    if (passed != marks_passed_) {
      marks_passed_ = passed;
      now_.idle_s = 0;
      const std::lock_guard lock(mutex_);
      last_progress_ = Clock::now();
    }
    const ProgressMarks::Place place = watched_marks_->place();
    if (place.mark > host_mark_ || place.is_busy) set_place(now_, place.step, place.text);
  }

  /// A job that was stopped and continued as a whole (SIGTSTP, a debugger) has heard nothing
  /// meanwhile, and that is nobody's fault. True if this thread stood still since the last call:
  /// what it has gathered is old.
  bool forgive_a_pause() {
    const auto now = Clock::now();
    const Clock::duration pause = now - last_look_;
    last_look_ = now;
    if (pause < std::chrono::seconds(1)) return false;
    for (Peer& each : peers_) each.heard = std::min(each.heard + pause, now);
    const std::lock_guard lock(mutex_);
    last_progress_ = std::min(last_progress_ + pause, now);
    return true;
  }

  Peer& peer(int rank) { return peers_[static_cast<std::size_t>(rank)]; }

  /// Takes in what has arrived. True if a rank is done that was not.
  bool receive() {
    bool is_news = false;
    while (const auto posted = plane_->poll()) {
      std::vector<Report> reports(peers_.size());
      if (posted->bytes.size() != reports.size() * sizeof(Report)) continue;
      std::memcpy(reports.data(), posted->bytes.data(), posted->bytes.size());
      for (std::size_t rank = 0; rank < reports.size(); ++rank) {
        if (reports[rank].beat <= peers_[rank].report.beat) continue;
        is_news = is_news || reports[rank].is_done != peers_[rank].report.is_done;
        peers_[rank] = {reports[rank], Clock::now()};
      }
    }
    return is_news;
  }

  /// Renews this rank's report and passes all reports on, to ranks 1, 2, 4, ... further.
  void speak() {
    now_.beat = ++beat_;
    peer(plane_->rank()) = {now_, Clock::now()};
    const std::string bytes = packed();
    for (int distance = 1; distance < plane_->size(); distance *= 2) {
      plane_->post(bytes, (plane_->rank() + distance) % plane_->size());
    }
  }

  std::string packed() const {
    std::string bytes;
    for (const Peer& each : peers_) {
      bytes.append(reinterpret_cast<const char*>(&each.report), sizeof(Report));
    }
    return bytes;
  }

  bool everyone_is_done() const {
    return std::all_of(peers_.begin(), peers_.end(),
                       [](const Peer& each) { return each.report.is_done != 0; });
  }

  /// This rank will pass nothing on any more: all must know that all are done.
  void say_farewell() {
    const std::string bytes = packed();
    const auto deadline = Clock::now() + std::chrono::seconds(1);
    for (int to = 0; to < plane_->size(); ++to) {
      if (to == plane_->rank()) continue;
      while (!plane_->post(bytes, to) && Clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  }

  static double silent_s(const Peer& each) { return Seconds(Clock::now() - each.heard).count(); }
  static double idle_s(const Peer& each) { return each.report.idle_s + silent_s(each); }
  static std::string place(const Peer& each) {
    const auto& phase = each.report.phase;
    return fmt::format("step {}, {}", each.report.step,
                       std::string(phase.begin(), std::find(phase.begin(), phase.end(), '\0')));
  }

  void look_for_trouble() {
    if (!found_) {
      found_ = find_trouble();
      found_at_ = Clock::now();
      speaker_ = lowest_alive();
      if (!found_) return;
    }
    if (plane_->rank() != speaker_ && Clock::now() - found_at_ < kPatience) return;
    fmt::print(stderr, "{}", *found_);
    plane_->abort(static_cast<int>(ExitCode::kDevice));
  }

  /// What to print once a rank has stood still for too long, be it alive or dead. It then holds up
  /// others: the one to name is a rank that fell silent, or else the one that stopped first.
  std::optional<std::string> find_trouble() {
    const Peer* idle = worst(idle_s, timeout_);
    if (idle == nullptr) return std::nullopt;
    const Peer* silent = worst(silent_s, silence_);
    std::string text = silent != nullptr ? accuse(*silent, "has not reported", silent_s(*silent))
                                         : accuse(*idle, "has made no progress", idle_s(*idle));
    for (std::size_t rank = 0; rank < peers_.size(); ++rank) {
      const Peer& each = peers_[rank];
      text += fmt::format("  rank {}: {}; progress {:.0f} s ago, heard {:.0f} s ago{}\n", rank,
                          place(each), idle_s(each), silent_s(each),
                          each.report.is_done != 0 ? ", done" : "");
    }
    return text;
  }

  /// The rank with most seconds, if more than `limit`, of those that have not ended.
  const Peer* worst(double (*seconds)(const Peer&), double limit) const {
    const Peer* found = nullptr;
    for (const Peer& each : peers_) {
      if (each.report.is_done != 0 || seconds(each) <= limit) continue;
      if (found == nullptr || seconds(each) > seconds(*found)) found = &each;
    }
    return found;
  }

  std::string accuse(const Peer& each, std::string_view what, double seconds) const {
    return fmt::format("ringtrain: rank {} {} for {:.0f} s (last: {})\n", &each - peers_.data(),
                       what, seconds, place(each));
  }

  int lowest_alive() const {
    const auto alive = std::find_if(peers_.begin(), peers_.end(), [&](const Peer& each) {
      return each.report.is_done == 0 && silent_s(each) <= silence_;
    });
    return alive == peers_.end() ? plane_->rank() : static_cast<int>(alive - peers_.begin());
  }

  std::unique_ptr<World> plane_;
  double timeout_;  // in seconds, as all of these
  Seconds period_;
  double silence_;  // a rank not heard for so long is taken for dead when the job stands still
  std::mutex mutex_;
  std::condition_variable wake_;

  // Shared under the mutex.
  bool is_stopped_ = false;
  Report own_{.phase = {'s', 't', 'a', 'r', 't'}};
  Clock::time_point last_progress_ = Clock::now();
  bool is_limited_ = true;  // false: what it does now may take any time
  std::vector<Communicator*> groups_;
  ProgressMarks* marks_ = nullptr;
  std::uint64_t marks_before_ = 0;  // enqueued before the last call of `progress`

  // The thread's own.
  Clock::time_point last_look_ = Clock::now();
  Report now_;
  ProgressMarks* watched_marks_ = nullptr;
  std::uint64_t host_mark_ = 0;
  std::uint64_t marks_passed_ = 0;
  std::uint32_t beat_ = 0;
  std::vector<Communicator*> watched_;
  std::vector<Peer> peers_;  // by rank, this one included
  std::optional<std::string> found_;
  Clock::time_point found_at_;
  int speaker_ = 0;     // who was to tell, when it was found
  std::thread thread_;  // last: it uses the others
};

Watchdog::Watchdog(World& world, double timeout_s) {
  if (timeout_s <= 0) {
    throw InvalidArgument(
        fmt::format("--timeout_s must be a positive number of seconds, got {}", timeout_s));
  }
  if (world.size() > 1) guard_ = std::make_unique<Guard>(world, timeout_s);
}

Watchdog::~Watchdog() = default;

void Watchdog::progress(std::int64_t step, std::string_view phase) {
  if (guard_) guard_->progress(step, phase, /*is_limited=*/true);
}

void Watchdog::take_time(std::int64_t step, std::string_view phase) {
  if (guard_) guard_->progress(step, phase, /*is_limited=*/false);
}

void Watchdog::watch(ProgressMarks& marks) {
  if (guard_) guard_->watch(marks);
}

void Watchdog::watch(Communicator& group) {
  if (guard_) guard_->watch(group);
}

void Watchdog::shutdown() {
  if (guard_) guard_->shutdown();
}

}  // namespace ringtrain
