#pragma once

#include <memory>
#include <optional>

#include "rank_attention.h"
#include "ringtrain/bench/emulated_link.h"
#include "ringtrain/bench/ring_bench.h"
#include "ringtrain/core/stream_trace.h"

namespace ringtrain {

/// A rank of an emulated ring, or of a ring of one, with all that it runs on.
class EmulatedRank {
 public:
  EmulatedRank(Device& device, Backend& ops, DType compute, const RingBenchCase& what);

  RankAttention& attention() { return *attention_; }
  EmulatedLink& link() { return *link_; }
  Stream& compute() { return *compute_; }
  /// Times the waiting of the compute stream, once it is started.
  StreamTrace& trace() { return trace_; }

 private:
  Device& device_;
  Backend& ops_;
  std::unique_ptr<Stream> compute_, ring_, others_, beside_;
  StreamTrace trace_;
  EmulatedLink* link_;  // the ring of the mesh
  Mesh mesh_;
  std::optional<DeviceMemory> memory_;
  std::optional<Arena> arena_;
  Arena host_ = Arena::measuring();  // attention keeps nothing there
  std::optional<Context> context_;
  std::optional<RankAttention> attention_;
};

}  // namespace ringtrain
