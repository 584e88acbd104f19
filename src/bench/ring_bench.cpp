#include "ringtrain/bench/ring_bench.h"

#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <vector>

#include "emulated_rank.h"
#include "ringtrain/core/error.h"
#include "ringtrain/train/trace_file.h"
#include "stopwatch.h"

namespace ringtrain {
namespace {

/// Both passes of one kind.
struct PassStopwatch {
  explicit PassStopwatch(Device& device) : forward(device), backward(device) {}
  void time(EmulatedRank& rank) {
    forward.time(rank.compute(), [&] { rank.attention().forward(); });
    backward.time(rank.compute(), [&] { rank.attention().backward(); });
  }
  Stopwatch forward, backward;
};

/// What is enqueued on `next` later runs after all that is enqueued on `done` now.
void chain(Device& device, Stream& done, Stream& next) {
  const std::unique_ptr<Event> event = device.make_event();
  done.record(*event);
  next.wait(*event);
}

/// A copier at work, and stopped also where an error passes: else nobody could free memory.
class Carrying {
 public:
  Carrying(PacedCopier& copier, Stream& stream) : copier_(copier), stream_(stream) {
    copier_.start(stream_);
  }
  ~Carrying() {
    try {
      copier_.stop(stream_);
    } catch (const Error&) {  // the device is lost
    }
  }
  Carrying(const Carrying&) = delete;
  Carrying& operator=(const Carrying&) = delete;

 private:
  PacedCopier& copier_;
  Stream& stream_;
};

class RingTimer {
 public:
  RingTimer(Device& device, Backend& ops, DType compute, const RingBenchCase& what)
      : device_(device),
        file_(what.trace),
        copier_(make_paced_copier(device, what.link)),
        rank_(device, ops, compute, what),
        whole_(device, ops, compute, what.unsplit()) {
    rank_.attention().draw_inputs();
    whole_.attention().draw_inputs();
  }

  RingBenchResult run(int warmups, int runs) {
    PassStopwatch ring(device_), compute(device_), whole(device_);
    const int num_ranks = rank_.link().size();
    // As many of the rank's passes as take as long as the whole sequence: the clock of a device
    // that is at its limit of power follows what it has done in the last tenth of a second.
    for (int i = 0; i < warmups + runs; ++i) {
      whole.time(whole_);
      chain(device_, whole_.compute(), rank_.compute());
      rank_.link().carry_by(nullptr);
      for (int r = 0; r < num_ranks; ++r) compute.time(rank_);  // first: it loads all kernels
      rank_.link().carry_by(copier_.get());
      {
        const Carrying carrying(*copier_, rank_.compute());
        for (int r = 0; r < num_ranks; ++r) ring.time(rank_);
      }
      chain(device_, rank_.compute(), whole_.compute());
    }
    const auto skipped_wholes = static_cast<std::size_t>(warmups);
    const std::size_t skipped = skipped_wholes * static_cast<std::size_t>(num_ranks);
    const double share = 1.0 / num_ranks;
    RingBenchResult result;
    result.forward = {ring.forward.median_s(skipped), compute.forward.median_s(skipped),
                      share * whole.forward.median_s(skipped_wholes),
                      waited_s([&] { rank_.attention().forward(); })};
    result.backward = {ring.backward.median_s(skipped), compute.backward.median_s(skipped),
                       share * whole.backward.median_s(skipped_wholes),
                       waited_s([&] { rank_.attention().backward(); })};
    if (!file_.empty()) write_trace_file();
    return result;
  }

 private:
  /// Seconds in which the compute stream waits for the ring during `pass`, the median of a few.
  double waited_s(const std::function<void()>& pass) {
    constexpr int kRuns = 5;
    std::vector<double> waited;
    for (int i = 0; i < kRuns; ++i) {
      whole_.attention().forward();  // the host gets ahead meanwhile
      chain(device_, whole_.compute(), rank_.compute());
      {
        const Carrying carrying(*copier_, rank_.compute());
        rank_.trace().start(StreamTrace::Detail::kExposed);
        pass();
      }
      rank_.trace().stop();
      waited.push_back(exposed_seconds(rank_.trace().regions()));
    }
    return median(std::move(waited));
  }

  void write_trace_file() {
    StreamTrace& trace = rank_.trace();
    trace.start(StreamTrace::Detail::kAll);
    whole_.attention().forward();  // the host gets ahead meanwhile
    chain(device_, whole_.compute(), rank_.compute());
    {
      const Carrying carrying(*copier_, rank_.compute());
      rank_.attention().forward();
      rank_.attention().backward();
    }
    trace.stop();
    write_trace(file_, trace, rank_.link().rank(), device_.name());
  }

  Device& device_;
  std::string file_;
  std::unique_ptr<PacedCopier> copier_;
  EmulatedRank rank_;
  EmulatedRank whole_;
};

/// `flops`: of a pass; `bytes`: that a rank sends beside one of its steps, in `messages`.
HiddenHop hidden_hop(const RingBenchCase& what, double flops, double compute_s, double bytes,
                     int messages) {
  const auto tokens = static_cast<double>(what.seq_length);
  HiddenHop hop{};
  hop.flops_per_s = flops / compute_s;
  hop.bytes = bytes;
  hop.step_s = compute_s / what.num_ranks;
  const double latency_s = messages * what.link.latency_s;
  hop.hop_s = bytes / what.link.bytes_per_s + latency_s;
  // a c^2 = b c + latency, for c tokens
  const double a = hop.step_s / (tokens * tokens);
  const double b = bytes / tokens / what.link.bytes_per_s;
  hop.least_tokens =
      static_cast<std::int64_t>(std::ceil((b + std::sqrt(b * b + 4 * a * latency_s)) / (2 * a)));
  hop.paper_tokens = static_cast<std::int64_t>(std::ceil(hop.flops_per_s / what.link.bytes_per_s));
  return hop;
}

}  // namespace

SequenceLayout RingBenchCase::sequence_layout() const {
  for (const std::int64_t size :
       {std::int64_t{num_ranks}, seq_length, batch, heads, kv_heads, head_dim}) {
    if (size < 1) {
      throw InvalidArgument(fmt::format("sizes of attention must be at least 1, got {}", size));
    }
  }
  if (heads % kv_heads != 0) {
    throw InvalidArgument(fmt::format("kv_heads {} does not divide heads {}", kv_heads, heads));
  }
  if (rank < 0 || rank >= num_ranks) {
    throw InvalidArgument(fmt::format("rank {} is not on a ring of {}", rank, num_ranks));
  }
  return {layout, num_ranks * seq_length, num_ranks};
}

RingBenchCase RingBenchCase::unsplit() const {
  RingBenchCase whole = *this;
  whole.seq_length *= num_ranks;
  whole.num_ranks = 1;
  whole.rank = 0;
  return whole;
}

RingPass RingBenchResult::both() const {
  return {forward.ring_s + backward.ring_s, forward.compute_s + backward.compute_s,
          forward.whole_s + backward.whole_s, forward.waited_s + backward.waited_s};
}

RingBenchResult time_ring(Device& device, Backend& ops, DType compute, const RingBenchCase& what,
                          int warmups, int runs) {
  what.sequence_layout();
  RingBenchResult result = RingTimer(device, ops, compute, what).run(warmups, runs);
  const auto product = [](auto... sizes) { return (1.0 * ... * static_cast<double>(sizes)); };
  const double flops = product(2, what.batch, what.heads, what.head_dim, what.num_ranks,
                               what.seq_length, what.seq_length);
  const double elements = product(2, what.batch, what.seq_length, what.kv_heads, what.head_dim);
  const auto key_value_bytes = elements * static_cast<double>(size_of(compute));
  const auto gradient_bytes = elements * static_cast<double>(size_of(what.gradient_dtype));
  result.forward_hop = hidden_hop(what, flops, result.forward.compute_s, key_value_bytes, 1);
  result.backward_hop =
      hidden_hop(what, 2.5 * flops, result.backward.compute_s, key_value_bytes + gradient_bytes, 3);
  return result;
}

}  // namespace ringtrain
