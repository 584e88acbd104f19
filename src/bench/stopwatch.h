#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "ringtrain/bench/timing.h"
#include "ringtrain/core/device.h"

namespace ringtrain {

/// Durations of the calls of one kind, from events on one stream.
class Stopwatch {
 public:
  explicit Stopwatch(Device& device) : device_(device) {}

  void time(Stream& stream, const std::function<void()>& call) {
    spans_.push_back({device_.make_timed_event(), device_.make_timed_event()});
    stream.record(*spans_.back().begin);
    call();
    stream.record(*spans_.back().end);
  }
  /// Waits for the device. The first `skipped` calls do not count.
  double median_s(std::size_t skipped) {
    std::vector<double> seconds;
    for (std::size_t i = skipped; i < spans_.size(); ++i) {
      spans_[i].end->synchronise();
      seconds.push_back(spans_[i].end->seconds_since(*spans_[i].begin));
    }
    return median(std::move(seconds));
  }

 private:
  struct Span {
    std::unique_ptr<Event> begin, end;
  };
  Device& device_;
  std::vector<Span> spans_;
};

}  // namespace ringtrain
