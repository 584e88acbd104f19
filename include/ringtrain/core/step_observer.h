#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "ringtrain/core/device.h"

namespace ringtrain {

/// What a stretch of a stream's work is. Texts are not copied: literals, or names that outlive the
/// observer's use of them.
struct Label {
  const char* what;              ///< "forward", "hop", "all_gather"
  const char* object = nullptr;  ///< of what: "layer 3"
  int index = -1;                ///< which: of hops and ring steps
  const char* group = nullptr;   ///< communication: the group that it waits for, "sp"
  std::size_t bytes = 0;         ///< a collective: what this rank sends (comm/wire_bytes.h)

  /// "forward layer 3", "hop 2", "waiting for all_gather of layer 4 on group param".
  std::string to_string() const;
};

/// Hears what the streams of a rank are given to do, region by region; regions of one stream nest.
/// Model and schedules say where they are without knowing who listens: marks for the watchdog, a
/// trace, or nobody. Called by the thread that enqueues, and cheap: the work itself runs later.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  /// What is enqueued on `stream` until the matching `end` is `label`.
  virtual void begin(Stream& stream, const Label& label) = 0;
  virtual void end(Stream& stream) = 0;
};

/// Several listeners as one; they outlive it.
class StepObservers final : public StepObserver {
 public:
  void add(StepObserver& observer) { observers_.push_back(&observer); }
  void begin(Stream& stream, const Label& label) override {
    for (StepObserver* each : observers_) each->begin(stream, label);
  }
  void end(Stream& stream) override {
    for (StepObserver* each : observers_) each->end(stream);
  }

 private:
  std::vector<StepObserver*> observers_;
};

/// A region for as long as it lives; nothing if `observer` is null.
class Region {
 public:
  Region(StepObserver* observer, Stream& stream, const Label& label)
      : observer_(observer), stream_(stream) {
    if (observer_ != nullptr) observer_->begin(stream_, label);
  }
  ~Region() {
    if (observer_ != nullptr) observer_->end(stream_);
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

 private:
  StepObserver* observer_;
  Stream& stream_;
};

}  // namespace ringtrain
