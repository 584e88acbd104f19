#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ringtrain/core/step_observer.h"

namespace ringtrain {

/// How far the device of this rank has come, which is not how far the host is: on a GPU the host
/// enqueues a whole step and then waits. Every begin and end of a region is a mark, an event on the
/// region's stream; whoever polls learns the newest mark that the device has passed. On the CPU
/// marks are passed with the host, and those behind communication when that is complete.
///
/// One thread enqueues, one other thread polls, and neither ever waits for the other: a full launch
/// queue may block the first for as long as a lost peer does.
class ProgressMarks final : public StepObserver {
 public:
  /// `streams`: all that regions will be on, the compute stream first; they and `device` must
  /// outlive this. Events are made when they are first needed and used by turns.
  ProgressMarks(Device& device, const std::vector<Stream*>& streams);

  void begin(Stream& stream, const Label& label) override;
  void end(Stream& stream) override;
  /// The step of marks from now on.
  void set_step(std::int64_t step) { step_ = step; }
  /// Marks so far; for the enqueuing thread.
  std::uint64_t num_marks() const { return num_marks_; }

  /// Looks how far the device is, without waiting; returns the number of marks that it has passed.
  /// For the polling thread, as all below. Errors: DeviceError if marked work failed.
  std::uint64_t poll();
  /// Where the compute stream was at the last poll.
  struct Place {
    std::int64_t step = 0;
    std::uint64_t mark = 0;  ///< its number, from 1; 0: it has passed none
    bool is_busy = false;    ///< there are marks before it
    /// "backward layer 3, ring step 2, waiting for hop 2 on group sp", or where it computes, and
    /// communication on other streams that is not complete: "...; pending: hop 2, exchange on ...".
    std::string text;
  };
  Place place() const;

 private:
  static constexpr std::size_t kMaxDepth = 4;
  // More marks than a launch queue has room for; a mark that finds no room is left out.
  static constexpr std::uint64_t kCapacity = 4096;

  struct OpenRegions {
    std::array<Label, kMaxDepth> labels{};
    std::size_t depth = 0;
  };
  struct Mark {
    std::unique_ptr<Event> event;
    OpenRegions open;
    std::int64_t step = 0;
    std::uint64_t number = 0;
  };
  // Marks [passed, enqueued) are in flight, at their number modulo kCapacity. The enqueuing thread
  // writes a mark before it counts it, the polling thread lets go of it by counting it.
  struct Track {
    explicit Track(Stream& of) : stream(of), marks(kCapacity) {}
    Stream& stream;
    OpenRegions open;
    std::vector<Mark> marks;
    std::atomic<std::uint64_t> enqueued{0};
    std::atomic<std::uint64_t> passed{0};
    // Of the polling thread: the newest mark passed, and whether there are others before it.
    struct {
      OpenRegions open;
      std::int64_t step = 0;
      std::uint64_t number = 0;
    } at;
    bool is_busy = false;
  };

  Track& track(const Stream& stream);
  void mark(Track& track);
  static bool is_communicating(const Track& track);
  static std::string to_string(const OpenRegions& open);

  Device& device_;
  std::vector<std::unique_ptr<Track>> tracks_;
  std::int64_t step_ = 0;
  std::uint64_t num_marks_ = 0;
  std::uint64_t num_passed_ = 0;
};

}  // namespace ringtrain
