#include "ringtrain/core/stream_trace.h"

#include <algorithm>
#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {

StreamTrace::StreamTrace(Device& device, const std::vector<Stream*>& streams)
    : device_(device), streams_(streams), open_(streams.size()) {}

std::size_t StreamTrace::index_of(const Stream& stream) const {
  const auto found = std::find(streams_.begin(), streams_.end(), &stream);
  if (found == streams_.end()) throw InvalidArgument("a traced region on an unknown stream");
  return static_cast<std::size_t>(found - streams_.begin());
}

Event& StreamTrace::next_event() {
  if (num_events_ == events_.size()) events_.push_back(device_.make_timed_event());
  return *events_[num_events_++];
}

void StreamTrace::begin(Stream& stream, const Label& label) {
  if (!is_on_) return;
  const std::size_t at = index_of(stream);
  const bool matters =
      (at == kCompute && label.group != nullptr) || (at == kBeside && label.group == nullptr);
  if (detail_ == Detail::kExposed && !matters) {
    open_[at].push_back(kSkipped);
    return;
  }
  open_[at].push_back(records_.size());
  records_.push_back({label, at, &next_event(), nullptr});
  stream.record(*records_.back().begin);
}

void StreamTrace::end(Stream& stream) {
  if (!is_on_) return;
  const std::size_t at = index_of(stream);
  const std::size_t record = open_[at].back();
  open_[at].pop_back();
  if (record == kSkipped) return;
  records_[record].end = &next_event();
  stream.record(*records_[record].end);
}

void StreamTrace::start(Detail detail) {
  detail_ = detail;
  records_.clear();
  num_events_ = 0;
  first_ = &next_event();
  if (detail == Detail::kAll) {
    // The event lies between two looks at the clock. The last of several attempts is warm.
    synchronise();
    for (int attempt = 0; attempt < 4; ++attempt) {
      const auto before = Clock::now();
      streams_[0]->record(*first_);
      first_->synchronise();
      const auto half = (Clock::now() - before) / 2;
      started_at_ = before + half;
      start_error_s_ = std::chrono::duration<double>(half).count();
    }
  } else {
    streams_[0]->record(*first_);
  }
  host_wait_s_ = -device_.communication_wait_s();
  is_on_ = true;
}

void StreamTrace::stop() {
  last_ = &next_event();
  streams_[0]->record(*last_);
  host_wait_s_ += device_.communication_wait_s();
  is_on_ = false;
}

void StreamTrace::synchronise() {
  for (Stream* stream : streams_) stream->synchronise();
}

std::vector<StreamTrace::Timed> StreamTrace::regions() {
  synchronise();
  std::vector<Timed> timed;
  for (const Record& each : records_) {
    timed.push_back({each.label.to_string(), each.stream, each.begin->seconds_since(*first_),
                     each.end->seconds_since(*first_),
                     each.label.group == nullptr ? "" : each.label.group, each.label.bytes});
  }
  return timed;
}

double StreamTrace::exposed_share() {
  const bool on_cpu = device_.type() == DeviceType::kCpu;
  const double waited = on_cpu ? host_wait_s_ : exposed_seconds(regions());
  synchronise();
  const double whole = last_->seconds_since(*first_);
  return whole > 0 ? std::min(waited / whole, 1.0) : 0.0;
}

double exposed_seconds(const std::vector<StreamTrace::Timed>& regions) {
  using Span = std::pair<double, double>;
  // Regions of a stream come in the order of their beginning.
  const auto spans_of = [&](std::size_t stream, bool of_a_group) {
    std::vector<Span> spans;
    for (const StreamTrace::Timed& each : regions) {
      if (each.stream != stream || each.group.empty() == of_a_group) continue;
      const double begin = std::max(each.begin_s, spans.empty() ? 0.0 : spans.back().second);
      if (begin < each.end_s) spans.emplace_back(begin, each.end_s);
    }
    return spans;
  };
  const std::vector<Span> computing = spans_of(StreamTrace::kBeside, false);
  double exposed = 0;
  std::size_t first = 0;  // of those that end after the wait begins
  for (const auto& [begin, end] : spans_of(StreamTrace::kCompute, true)) {
    exposed += end - begin;
    while (first < computing.size() && computing[first].second <= begin) ++first;
    for (std::size_t i = first; i < computing.size() && computing[i].first < end; ++i) {
      exposed -= std::min(end, computing[i].second) - std::max(begin, computing[i].first);
    }
  }
  return exposed;
}

}  // namespace ringtrain
