#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
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
  DType gradient_dtype = DType::kFloat32;  ///< gradients travel in it, fp32 or bf16
  /// In which heads are exchanged and attended one after the other, where key/value heads of a rank
  /// can be divided so; else all at once. Results are the same.
  int head_groups = 2;
};

/// Causal attention over a sequence split along the sp axis; exact up to rounding, whatever the
/// transport, the layout and the number of ranks. Within a ulysses group heads are exchanged for
/// tokens; the groups are the members of a ring.
///
/// Letters     B micro-batch, T tokens of this rank (seq_length / sp), U ranks of a ulysses group,
///             H head_dim, N query heads and K key/value heads of this rank (already divided by tp)
/// Collective  all ranks of the sp group call it with equal shapes
/// Memory      what is written shares none with what is read; with U > 1 it holds heads meanwhile
/// Numerics    the output, lse and all gradients are folded in fp32 across steps, rounded once
/// Source      Ring Attention (arXiv:2310.01889), algorithm 1
class SequenceAttention {
 public:
  /// Uploads the positions of all ranks in each of `layouts` into the arena (on the meta device
  /// only makes room); the first one is in use. `context` must outlive this.
  SequenceAttention(Context& context, const std::vector<SequenceLayout>& layouts,
                    const SequenceAttentionOptions& options);
  ~SequenceAttention();

  /// From now on sequences are cut as layouts[index] says.
  void use_layout(std::size_t index);

  struct Forward {
    Tensor query;           ///< [B, T, N, H] compute
    Tensor key_value;       ///< [2, B, T, K, H] compute: key, then value
    Tensor lowest_visible;  ///< [B, U T] int32, of the group's tokens, or absent
    Tensor out;             ///< [B, T, N, H] compute, written
    Tensor lse;             ///< [B, N, T] fp32, written for backward: with U > 1 the memory holds
                            ///< the rows that this rank attended, [B, N / U / G, U T] of each of
                            ///< G groups of heads
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
  struct Parts;  // that attention of the ring is made of

  // A ring of one has its keys already: nothing to gather, nothing to copy.
  bool rotates() const;
  // Attention of the ring, of heads whose tokens are here. `free_processors` are left to exchanges
  // of other heads.
  void attend(const Forward& args, int free_processors);
  void attend_backward(const Backward& args, Tensor delta);

  Context& context_;
  SequenceAttentionOptions options_;
  HeadExchange exchange_;
  std::unique_ptr<Parts> parts_;
};

}  // namespace ringtrain
