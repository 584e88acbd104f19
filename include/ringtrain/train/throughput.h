#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace ringtrain {

/// Average speed over the last intervals, each weighted by its length. The caller takes the time:
/// an interval ends where the device was last known to be idle, not where work was enqueued.
class Throughput {
 public:
  /// `window`: intervals that count, at least 1.
  explicit Throughput(std::size_t window);

  /// Records one interval of `seconds` in which the whole job trained `steps` steps of `tokens`
  /// tokens in all.
  void add(std::int64_t steps, std::int64_t tokens, double seconds);

  /// Over the window; 0 before the first interval.
  double tokens_per_s() const;
  double seconds_per_step() const;

 private:
  struct Interval {
    std::int64_t steps;
    std::int64_t tokens;
    double seconds;
  };
  Interval total() const;

  std::size_t window_;
  std::deque<Interval> intervals_;
};

}  // namespace ringtrain
