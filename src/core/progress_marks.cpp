#include "ringtrain/core/progress_marks.h"

#include <fmt/format.h>

#include <algorithm>

#include "ringtrain/core/error.h"

namespace ringtrain {

ProgressMarks::ProgressMarks(Device& device, const std::vector<Stream*>& streams)
    : device_(device) {
  for (Stream* stream : streams) tracks_.push_back(std::make_unique<Track>(*stream));
}

ProgressMarks::Track& ProgressMarks::track(const Stream& stream) {
  const auto found = std::find_if(tracks_.begin(), tracks_.end(),
                                  [&](const auto& each) { return &each->stream == &stream; });
  if (found == tracks_.end()) throw InvalidArgument("progress marks on a stream without a track");
  return **found;
}

void ProgressMarks::begin(Stream& stream, const Label& label) {
  Track& at = track(stream);
  if (at.open.depth < kMaxDepth) at.open.labels[at.open.depth] = label;
  ++at.open.depth;
  mark(at);
}

void ProgressMarks::end(Stream& stream) {
  Track& at = track(stream);
  --at.open.depth;
  mark(at);
}

void ProgressMarks::mark(Track& at) {
  const std::uint64_t number = at.enqueued.load(std::memory_order_relaxed);
  if (number - at.passed.load(std::memory_order_acquire) == kCapacity) return;
  Mark& mark = at.marks[number % kCapacity];
  if (!mark.event) mark.event = device_.make_event();
  mark.open = at.open;
  mark.step = step_;
  mark.number = ++num_marks_;
  at.stream.record(*mark.event);
  at.enqueued.store(number + 1, std::memory_order_release);
}

std::uint64_t ProgressMarks::poll() {
  for (const std::unique_ptr<Track>& each : tracks_) {
    const std::uint64_t enqueued = each->enqueued.load(std::memory_order_acquire);
    const std::uint64_t begin = each->passed.load(std::memory_order_relaxed);
    std::uint64_t end = begin;
    while (end < enqueued && each->marks[end % kCapacity].event->is_complete()) ++end;
    if (end > begin) {
      const Mark& newest = each->marks[(end - 1) % kCapacity];
      each->at = {newest.open, newest.step, newest.number};
    }
    each->is_busy = end < enqueued;
    num_passed_ += end - begin;
    each->passed.store(end, std::memory_order_release);
  }
  return num_passed_;
}

bool ProgressMarks::is_communicating(const Track& track) {
  const OpenRegions& open = track.at.open;
  return open.depth > 0 && open.labels[std::min(open.depth, kMaxDepth) - 1].group != nullptr;
}

std::string ProgressMarks::to_string(const OpenRegions& open) {
  // The label of the region that ended last is still there.
  if (open.depth == 0) return fmt::format("after {}", open.labels[0].to_string());
  std::string text = open.labels[0].to_string();
  for (std::size_t i = 1; i < std::min(open.depth, kMaxDepth); ++i) {
    text += fmt::format(", {}", open.labels[i].to_string());
  }
  return text;
}

ProgressMarks::Place ProgressMarks::place() const {
  const Track& compute = *tracks_.front();
  if (compute.at.number == 0) return {};
  Place place{compute.at.step, compute.at.number, compute.is_busy, to_string(compute.at.open)};
  if (is_communicating(compute)) return place;
  for (const std::unique_ptr<Track>& each : tracks_) {
    if (each == tracks_.front() || !each->is_busy || !is_communicating(*each)) continue;
    place.text += fmt::format("; pending: {}", to_string(each->at.open));
  }
  return place;
}

}  // namespace ringtrain
