#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/head_exchange.h"
#include "ringtrain/parallel/sequence_layout.h"

namespace ringtrain {

/// How the keys and values of the other members of the ring come to a query.
enum class KeyValueTransport {
  kRing,   ///< rotate block by block, each hop behind the attention step before it
  kGather  ///< all-gather before attention, reduce-scatter of the gradients after
};

struct SequenceAttentionOptions {
  KeyValueTransport transport = KeyValueTransport::kRing;
  std::int64_t query_chunk_size = 0;  ///< 0: all rows at once
  std::int64_t key_chunk_size = 0;
  int ring_sms = 0;  ///< of a GPU: left free by attention kernels while a hop is under way
  DType gradient_dtype = DType::kFloat32;  ///< gradients travel in it, fp32 or bf16
};

/// Causal attention over a sequence split along the sp axis; exact up to rounding, whatever the
/// transport, the layout and the number of ranks. Within a ulysses group heads are exchanged for
/// tokens; the groups are the members of a ring.
///
/// Letters     B micro-batch, T tokens of this rank (seq_length / sp), U ranks of a ulysses group,
///             H head_dim, N query heads and K key/value heads of this rank (already divided by tp)
/// Collective  all ranks of the sp group call it with equal shapes
/// Numerics    the output, lse and all gradients are folded in fp32 across steps, rounded once
/// Source      Ring Attention (arXiv:2310.01889), algorithm 1
class SequenceAttention {
 public:
  /// Uploads the positions of all ranks in each of `layouts` into the arena (on the meta device
  /// only makes room); the first one is in use. `context` must outlive this.
  SequenceAttention(Context& context, const std::vector<SequenceLayout>& layouts,
                    const SequenceAttentionOptions& options);

  /// From now on sequences are cut as layouts[index] says.
  void use_layout(std::size_t index) { cut_ = index; }

  struct Forward {
    Tensor query;           ///< [B, T, N, H] compute
    Tensor key_value;       ///< [2, B, T, K, H] compute: key, then value
    Tensor lowest_visible;  ///< [B, U T] int32, of the group's tokens, or absent
    Tensor out;             ///< [B, T, N, H] compute, written
    Tensor lse;             ///< [B, N, T] fp32, written for backward: with U > 1 the memory holds
                            ///< [B, N / U, U T], the rows that this rank attended
  };
  void forward(const Forward& args);

  struct Backward {
    Tensor query, key_value, lowest_visible, out, lse;  ///< as in Forward
    Tensor dout;                                        ///< [B, T, N, H] compute
    Tensor dquery;                                      ///< [B, T, N, H] fp32, written
    Tensor dkey_value;  ///< [2, B, T, K, H] written; fp32, or of dkey_value_type
  };
  void backward(const Backward& args);

  /// The type that costs the least memory and time: compute where one step on one rank makes all of
  /// it, each key head by one query head, so that nothing is left to add.
  DType dkey_value_type(std::int64_t heads, std::int64_t kv_heads) const;

  /// [T] int32: positions of this rank's tokens in the whole sequence.
  Tensor positions() const;

 private:
  // What a layout says to this rank.
  struct Cut {
    Tensor positions;                                     // [P, U T] int32, of each ring member
    std::vector<std::vector<AttentionSegment>> segments;  // by key member: what this one sees of it
    int num_visible = 0;                                  // members of which something is seen
  };
  const Cut& cut() const { return cuts_[cut_]; }

  // Whether steps may run on two streams at once.
  bool steps_overlap(const Tensor& query, const Tensor& key_value, const Tensor& lowest) const;

  // Of the ring: a rank of it stands for its ulysses group.
  int num_ranks() const { return context_.mesh.ring->size(); }
  int rank() const { return context_.mesh.ring->rank(); }
  bool is_visible(int key_rank) const {
    return !cut().segments[static_cast<std::size_t>(key_rank)].empty();
  }
  // A ring of one has its keys already: nothing to gather, nothing to copy.
  bool rotates() const {
    return options_.transport == KeyValueTransport::kRing || num_ranks() == 1;
  }
  // The rank whose keys are here at step `step` of the rotation.
  int owner(int step) const { return (rank() - step + num_ranks()) % num_ranks(); }

  // Attention of the ring, when tokens have been exchanged for heads.
  void attend(const Forward& args);
  void attend_backward(const Backward& args, Tensor delta);
  struct Fold;  // the running state of a forward pass
  // Query heads and where they are computed.
  struct Lane {
    Stream* stream;
    std::int64_t first_head, num_heads;
  };
  std::vector<Lane> lanes_of(const Forward& args) const;
  void forward_step(const Forward& args, Fold& fold, Tensor key_value, int key_rank,
                    int free_processors, const std::vector<Lane>& lanes);
  void ring_forward(const Forward& args, Fold& fold);
  void ring_backward(const Backward& args, Tensor delta);
  void gathered_forward(const Forward& args, Fold& fold);
  void gathered_backward(const Backward& args, Tensor delta);
  Tensor gather_key_value(Tensor key_value);
  Transfer to_next(Tensor sent, Tensor received) const;
  void hop(const char* what, int step, std::span<const Transfer> transfers, Event& done,
           std::span<Stream* const> users);
  void wait_for_hop(const char* what, int step, const Event& event, Stream& stream);
  // What is enqueued on `after` from now on runs after all that is on `before` now.
  void order(Stream& before, Stream& after);

  // A part of a block of keys that lies in one piece: some of one sequence, or all of several.
  struct KeyPart {
    std::int64_t sequence, sequences;
    std::int64_t token, tokens;
  };
  static constexpr std::size_t kNumMessages = 2;  // in which the gradients of a block travel
  using Parts = std::vector<KeyPart>;
  using Messages = std::array<Parts, kNumMessages>;
  static KeyPart whole(const Tensor& key_value);
  static Messages messages_of(const Tensor& key_value);
  // Of key, value or a gradient of them, [B, T, K, H].
  static Tensor part_of(const Tensor& block, const KeyPart& part);
  bool is_visible(int key_rank, const KeyPart& part) const;
  AttentionMask mask(Tensor lowest_visible, int key_rank, const KeyPart& part) const;
  // Adds to the gradients of parts, or overwrites them.
  void backward_step(const Backward& args, Tensor delta, Tensor key_value, int key_rank,
                     Tensor dkey_value, const Parts& parts, bool overwrite, Stream& stream);
  void backward_part(const Backward& args, Tensor delta, Tensor key_value, int key_rank,
                     Tensor dkey_value, const KeyPart& part, bool overwrite, Stream& stream);
  struct Travel;  // gradients on their way
  Travel make_travel(Tensor dkey_value);
  void send(const Travel& travel, const Parts& message, int step, Event& done, Stream& stream);
  void receive(const Travel& travel, const Parts& message, int step, const Event& done,
               Stream& stream);
  void cast_parts(const Parts& message, Tensor in, Tensor out, Stream& stream);

  Context& context_;
  SequenceAttentionOptions options_;
  HeadExchange exchange_;
  std::vector<Cut> cuts_;
  std::size_t cut_ = 0;
  std::unique_ptr<Event> computed_;  // a computing stream: everything enqueued so far
  std::unique_ptr<Event> arrived_;   // ring stream: the last hop of keys and values
  // ring stream: the last hops of their gradients
  std::array<std::unique_ptr<Event>, kNumMessages> returned_;
};

}  // namespace ringtrain
