#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "ringtrain/bench/emulated_link.h"
#include "ringtrain/bench/ring_bench.h"
#include "ringtrain/core/stream_trace.h"
#include "ringtrain/parallel/sequence_attention.h"

namespace ringtrain {

/// One layer's attention as a rank runs it in a step: its tensors and its schedule.
class RankAttention {
 public:
  /// The place of `context` on its mesh says which rank. Tensors lie in its arena, undefined.
  RankAttention(Context& context, const RingBenchCase& what);

  void forward() { attention_.forward({query, key_value, {}, out, lse}); }
  void backward() {
    attention_.backward({query, key_value, {}, out, lse, dout, dquery, dkey_value});
  }

  Tensor query, key_value, out, lse, dout, dquery, dkey_value;

 private:
  SequenceAttention attention_;
};

/// A rank of an emulated ring, or of a ring of one, with all that it runs on.
class EmulatedRank {
 public:
  EmulatedRank(Device& device, Backend& ops, DType compute, const RingBenchCase& what);

  RankAttention& attention() { return *attention_; }
  EmulatedLink& link() { return *link_; }
  Stream& compute() { return *compute_; }
  /// Times the waiting of the compute stream, once it is started.
  StreamTrace& trace() { return trace_; }
  /// Seeds other numbers for every rank into query, key, value and the gradient of the output.
  void draw_inputs();

 private:
  Device& device_;
  Backend& ops_;
  std::unique_ptr<Stream> compute_, ring_, others_;
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
