#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "ringtrain/core/device.h"

namespace ringtrain {

/// The second half of an operation that has been started: waits for it and finishes it, once.
/// Streams and events share it, so it may be asked for several times.
class Completion {
 public:
  using Clock = std::chrono::steady_clock;

  /// Adds the seconds that `finish` takes to `waited_s`, if that is not null.
  explicit Completion(std::function<void()> finish, double* waited_s = nullptr)
      : finish_(std::move(finish)), waited_s_(waited_s) {}
  /// Runs `finish` at the first call, does nothing later, also if `finish` threw.
  void complete();
  /// True once `finish` has returned or thrown. Callable from any thread.
  bool done() const { return done_.load(std::memory_order_acquire); }
  /// When it did.
  Clock::time_point finished_at() const { return finished_at_; }

 private:
  std::function<void()> finish_;
  double* waited_s_;
  std::atomic<bool> done_{false};
  Clock::time_point finished_at_;
};

/// Marks what was pending on the stream that recorded it.
class CpuEvent final : public Event {
 public:
  void synchronise() override;
  bool is_complete() const override;
  double seconds_since(const Event& earlier) const override;

  std::vector<std::shared_ptr<Completion>> marked;
  Completion::Clock::time_point recorded_at;

 private:
  Completion::Clock::time_point completed_at() const;
};

/// A stream of the CPU: operations run at once on the calling thread, after `complete()`; only
/// communication that was started and not completed is pending, in the order of its start.
///
/// Work of one stream is ordered, so an operation that touches memory of a pending one calls
/// `complete()` before it starts. A stream and its events belong to one thread. What is pending
/// at destruction is abandoned: call `synchronise()` first where peers still answer.
class CpuStream final : public Stream {
 public:
  /// Adds the seconds spent completing operations to `waited_s`, which outlives them.
  explicit CpuStream(double* waited_s = nullptr) : waited_s_(waited_s) {}

  /// Adds an operation that the caller has started; `finish` waits for it. It may throw
  /// DeviceError, which reaches whoever completes.
  void defer(std::function<void()> finish);
  /// Completes everything pending, in order; blocks the host meanwhile.
  void complete();
  bool idle() const;

  void record(Event& event) override;
  /// Completes, at once, what `event` marks.
  void wait(const Event& event) override;
  void synchronise() override { complete(); }
  void* native() const override { return nullptr; }

  /// `stream` as a CpuStream. Errors: InvalidArgument if it is of another device.
  static CpuStream& of(Stream& stream);

 private:
  double* waited_s_;
  std::deque<std::shared_ptr<Completion>> pending_;
};

}  // namespace ringtrain
