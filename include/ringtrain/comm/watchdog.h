#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "ringtrain/comm/communicator.h"
#include "ringtrain/comm/world.h"
#include "ringtrain/core/progress_marks.h"

namespace ringtrain {

/// A thread on every rank that ends the job, instead of letting it hang, when a rank dies, stands
/// still or loses its device. Ranks tell each other about every second that they live and where
/// they are; each passes on what it heard, so a message reaches all of N ranks in log2 N hops.
///
/// When a rank has made no progress for `timeout_s`, because it waits, hangs or is dead, the lowest
/// rank that lives prints "ringtrain: rank 3 has not reported for 61 s (last: step 12, backward
/// layer 3)" or "... has made no progress ..." and a table of all ranks, and ends the job with exit
/// code 4. So does any rank where `Communicator::check` of a watched group throws. A world of one
/// rank is not watched: nobody waits for it.
class Watchdog {
 public:
  /// Collective: takes a duplicate of `world`, which must outlive the watchdog. `timeout_s` > 0.
  Watchdog(World& world, double timeout_s);
  /// Stops watching at once; call `shutdown` first in an orderly end.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// "This rank works, and this is where", as the host sees it; from one thread. More often than
  /// every timeout_s, unless the device passes marks meanwhile. 256 characters of `phase` are kept.
  void progress(std::int64_t step, std::string_view phase);
  /// The same for work on files, which may take longer than timeout_s: until this rank's next
  /// progress it only has to live.
  void take_time(std::int64_t step, std::string_view phase);
  /// Takes each of `marks` that the device passes for progress, and tells where it is while it has
  /// marks before it: of two ranks, the one that waits names the collective. The thread that calls
  /// `progress` enqueues them. They live as long as a watched group does.
  void watch(ProgressMarks& marks);
  /// Also watches `group` for errors of operations in flight; it must live until `shutdown` returns
  /// or the watchdog is gone.
  void watch(Communicator& group);
  /// Collective: returns when every rank has called it, and is watched itself: a rank that never
  /// comes ends the job.
  void shutdown();

 private:
  class Guard;
  std::unique_ptr<Guard> guard_;  // absent in a world of one
};

}  // namespace ringtrain
