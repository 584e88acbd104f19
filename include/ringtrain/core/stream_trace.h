#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "ringtrain/core/step_observer.h"

namespace ringtrain {

/// Times regions of single steps by timed events on their streams: of all regions, for a trace, or
/// only what says where the compute stream waits for communication while the stream beside it
/// computes nothing. Steps that are not timed pay nothing.
class StreamTrace final : public StepObserver {
 public:
  enum class Detail { kExposed, kAll };
  static constexpr std::size_t kCompute = 0, kBeside = 3;  ///< indices of streams that compute
  /// A region as its stream saw it; times in seconds since `start`.
  struct Timed {
    std::string name;
    std::size_t stream;  ///< index of its stream
    double begin_s;
    double end_s;
    std::string group;  ///< empty: no communication
    std::size_t bytes;  ///< sent by this rank, where known
  };

  /// `streams`: all that regions will be on: compute, ring, params, beside, as many as there are;
  /// they and `device` must outlive this.
  StreamTrace(Device& device, const std::vector<Stream*>& streams);

  void begin(Stream& stream, const Label& label) override;
  void end(Stream& stream) override;

  /// Times regions from here to `stop`; no region may be open. With kAll it first waits for the
  /// device and takes the host's time at the start.
  void start(Detail detail);
  void stop();

  /// Regions in the order of their beginning. Waits for the device, as all below.
  std::vector<Timed> regions();
  /// Share of the time between start and stop in which the compute stream waited for communication
  /// or carried it out, and the one beside it did not compute, in [0, 1]: from events around each
  /// wait and collective on a GPU; on the CPU, whose streams share the host, the host's time in
  /// communication of all streams.
  double exposed_share();
  /// The host's steady clock at the start of a kAll trace, and how wrong it may be.
  using Clock = std::chrono::steady_clock;
  Clock::time_point started_at() const { return started_at_; }
  double start_error_s() const { return start_error_s_; }

 private:
  static constexpr std::size_t kSkipped = static_cast<std::size_t>(-1);
  struct Record {
    Label label;
    std::size_t stream;
    Event* begin;
    Event* end;
  };

  std::size_t index_of(const Stream& stream) const;
  Event& next_event();
  void synchronise();

  Device& device_;
  std::vector<Stream*> streams_;
  bool is_on_ = false;
  Detail detail_ = Detail::kAll;
  std::vector<std::vector<std::size_t>> open_;  // by stream: records of the open regions
  std::vector<Record> records_;
  std::vector<std::unique_ptr<Event>> events_;  // made once, used again by the next timed step
  std::size_t num_events_ = 0;
  Event* first_ = nullptr;
  Event* last_ = nullptr;
  Clock::time_point started_at_;
  double start_error_s_ = 0;
  double host_wait_s_ = 0;
};

/// Seconds in which the compute stream was in a region of a group, nested ones counted once, and
/// the stream beside it computed nothing.
double exposed_seconds(const std::vector<StreamTrace::Timed>& regions);

}  // namespace ringtrain
