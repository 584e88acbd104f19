#pragma once

#include <cstdint>
#include <string>

#include "ringtrain/bench/paced_copy.h"
#include "ringtrain/ops/backend.h"
#include "ringtrain/parallel/sequence_layout.h"

/// Timing of ring attention, one rank of the ring alone on one device: the schedule of a training
/// step (SequenceAttention) against an emulated link.
namespace ringtrain {

struct RingBenchCase {
  int num_ranks = 8;
  int rank = 0;                    ///< which of them is timed
  std::int64_t seq_length = 8192;  ///< tokens of a rank
  std::int64_t batch = 1;
  std::int64_t heads = 32;
  std::int64_t kv_heads = 32;  ///< divides heads
  std::int64_t head_dim = 128;
  LayoutKind layout = LayoutKind::kZigzag;
  DType gradient_dtype = DType::kFloat32;  ///< as in SequenceAttentionOptions
  LinkModel link;
  std::string trace{};  ///< file for a Chrome trace of one forward and backward pass; empty: none

  /// Errors: InvalidArgument for sizes that do not fit together.
  SequenceLayout sequence_layout() const;
  /// The sequence of all ranks on one.
  RingBenchCase unsplit() const;
};

/// Of the forward pass, the backward pass, or both.
struct RingPass {
  double ring_s = 0;     ///< as in a training step
  double compute_s = 0;  ///< the same without communication
  double whole_s = 0;    ///< the rank's share of one kernel over the sequence of all ranks
  double waited_s = 0;   ///< in which the compute stream waited for the ring

  double exposed_share() const { return waited_s / ring_s; }
  double ratio() const { return whole_s / ring_s; }
};

/// When a hop hides behind the attention step beside it: c tokens of a rank take step_s_per_c2 c^2,
/// their messages bytes_per_c c / rate + latency. Both are of the even causal layouts, where a step
/// computes half of c^2 pairs.
struct HiddenHop {
  double flops_per_s;         ///< F, as measured without communication
  double bytes;               ///< that travel beside one step
  double hop_s;               ///< that they take
  double step_s;              ///< that the step takes
  std::int64_t least_tokens;  ///< smallest c at which the hop is hidden
  std::int64_t paper_tokens;  ///< the paper's c >= F / B: full mask, as many key/value heads
};

struct RingBenchResult {
  RingPass forward, backward;
  HiddenHop forward_hop, backward_hop;

  RingPass both() const;
};

/// Times passes by the device's clock: medians of `runs` rounds after `warmups`, in each of which
/// all kinds come by turns, those of one rank as often as there are ranks. Inputs are random normal
/// numbers.
/// Errors: those of RingBenchCase::sequence_layout and of a link without speed.
RingBenchResult time_ring(Device& device, Backend& ops, DType compute, const RingBenchCase& what,
                          int warmups, int runs);

/// Relative L2 errors, against unsplit attention in fp32 on the same inputs.
struct AttentionErrors {
  double out = 0, dquery = 0, dkey_value = 0;
};

struct RingCheck {
  AttentionErrors ring;       ///< of the results of all ranks, gathered
  AttentionErrors unsplit;    ///< of unsplit attention in the same type
  AttentionErrors tolerance;  ///< of `ring`
  bool passes() const;
};
/// Runs every rank in turn, each receiving what the one before it has sent, and gathers the
/// results. The ring may be half as wrong again as unsplit attention, or off by rounding in fp32;
/// where gradients travel in bf16, by a rounding a hop besides. what.rank does not matter.
RingCheck check_ring(Device& device, Backend& ops, DType compute, const RingBenchCase& what);

}  // namespace ringtrain
