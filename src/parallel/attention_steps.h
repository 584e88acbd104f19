#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ringtrain/parallel/sequence_attention.h"

namespace ringtrain {

/// A part of a block of keys that lies in one piece: some of one sequence, or all of several.
struct KeyPart {
  std::int64_t sequence, sequences;
  std::int64_t token, tokens;
};
using KeyParts = std::vector<KeyPart>;

/// All of [2, B, T, K, H].
KeyPart whole(const Tensor& key_value);
/// Of key, value or a gradient of them, [B, T, K, H].
Tensor part_of(const Tensor& block, const KeyPart& part);

/// Query heads [first_head, first_head + num_heads), 0 for all, and where they are computed.
struct Lane {
  Stream* stream;
  std::int64_t first_head, num_heads;
};

/// Attention of this member of the ring to the keys of one member at a time, as its layout says
/// what is seen of them; whose keys they are and how they came here is the caller's matter.
class AttentionSteps {
 public:
  /// As SequenceAttention.
  AttentionSteps(Context& context, const std::vector<SequenceLayout>& layouts,
                 const SequenceAttentionOptions& options);
  void use_layout(std::size_t index) { cut_ = index; }

  /// [U T] int32, of the tokens of this member.
  Tensor positions() const { return cut().positions[context_.mesh.ring->rank()]; }
  /// Whether steps may run on two streams at once.
  bool overlap(const Tensor& query, const Tensor& key_value, const Tensor& lowest_visible) const;

  /// Steps fold into `partial` until the last visible one writes the output.
  struct Fold {
    Tensor partial;  // [B, T, N, H] fp32, absent where one step is all
    int done = 0;    // visible steps so far
  };
  Fold begin(const Tensor& query);
  void forward(const SequenceAttention::Forward& args, Fold& fold, Tensor key_value, int key_rank,
               int free_processors, const std::vector<Lane>& lanes);
  /// Adds to the gradients of parts, or overwrites them. delta: [B, N, T] fp32
  /// (AttentionDeltaArgs).
  void backward(const SequenceAttention::Backward& args, Tensor delta, Tensor key_value,
                int key_rank, Tensor dkey_value, const KeyParts& parts, bool overwrite,
                Stream& stream);

 private:
  // What a layout says to this rank.
  struct Cut {
    Tensor positions;                                     // [P, U T] int32, of each ring member
    std::vector<std::vector<AttentionSegment>> segments;  // by key member: what this one sees of it
    int num_visible = 0;                                  // members of which something is seen
  };
  const Cut& cut() const { return cuts_[cut_]; }
  bool is_visible(int key_rank) const {
    return !cut().segments[static_cast<std::size_t>(key_rank)].empty();
  }
  bool is_visible(int key_rank, const KeyPart& part) const;
  AttentionMask mask(Tensor lowest_visible, int key_rank, const KeyPart& part) const;
  void backward_part(const SequenceAttention::Backward& args, Tensor delta, Tensor key_value,
                     int key_rank, Tensor dkey_value, const KeyPart& part, SkippedKeys skipped,
                     bool overwrite, Stream& stream);

  Context& context_;
  SequenceAttentionOptions options_;
  std::vector<Cut> cuts_;
  std::size_t cut_ = 0;
};

}  // namespace ringtrain
