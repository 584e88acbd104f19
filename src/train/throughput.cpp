#include "ringtrain/train/throughput.h"

#include "ringtrain/core/error.h"

namespace ringtrain {

Throughput::Throughput(std::size_t window) : window_(window) {
  if (window == 0) throw InvalidArgument("a throughput window must hold at least 1 interval");
}

void Throughput::add(std::int64_t steps, std::int64_t tokens, double seconds) {
  intervals_.push_back({steps, tokens, seconds});
  if (intervals_.size() > window_) intervals_.pop_front();
}

Throughput::Interval Throughput::total() const {
  Interval sum{0, 0, 0.0};
  for (const Interval& interval : intervals_) {
    sum.steps += interval.steps;
    sum.tokens += interval.tokens;
    sum.seconds += interval.seconds;
  }
  return sum;
}

double Throughput::tokens_per_s() const {
  const Interval sum = total();
  return sum.seconds > 0 ? static_cast<double>(sum.tokens) / sum.seconds : 0.0;
}

double Throughput::seconds_per_step() const {
  const Interval sum = total();
  return sum.steps > 0 ? sum.seconds / static_cast<double>(sum.steps) : 0.0;
}

}  // namespace ringtrain
