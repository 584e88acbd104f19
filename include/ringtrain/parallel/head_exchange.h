#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/layer_messages.h"

namespace ringtrain {

/// The exchange of heads for tokens between the ranks of a ulysses group (DeepSpeed-Ulysses,
/// arXiv:2309.14509): instead of all heads of its own tokens, a rank has some heads of the tokens
/// of the whole group, and attention needs nothing else of them. The heads of a rank come and go in
/// G groups, each by messages of its own, so that one is attended while another travels.
///
/// Letters     U ranks of the group, B batch, T tokens of this rank, U T those of the group in the
///             order of ranks; N heads of a tensor (query or key/value), of which rank u gets
///             n = max(N / U, 1): heads u n to (u + 1) n, or where U > N head u N / U, which U / N
///             ranks then share; G divides n, and head group g has n / G of the n, in order
/// Collective  all ranks of the group, with equal shapes, in the same order
/// Streams     messages travel on the ring stream; all else is on the compute stream, which waits
///             where it is told to
/// Errors      InvalidArgument where neither of U and N divides the other, or G does not divide n
class HeadExchange {
 public:
  HeadExchange(Context& context, int max_groups);

  int size() const { return messages_.group().size(); }
  /// G for tensors of so many key/value heads: `max_groups` if it divides theirs of a rank, else 1.
  int groups_of(std::int64_t kv_heads) const;

  /// Room for [..., T, N, H] as heads, [G, ..., U T, n / G, H], in the arena.
  Tensor make_heads(const Tensor& tokens, int groups) const;
  /// The same in the memory of `tokens`, whose elements are as many unless ranks share heads.
  Tensor heads_in(const Tensor& tokens, int groups) const;
  /// A tensor on both sides: what lies in one is sent into the other, head group by head group.
  struct Sides {
    Tensor heads;     ///< [G, ..., U T, n / G, H]
    Tensor messages;  ///< of `pack` or `make_room`: a piece for each rank, head group and sequence
  };
  /// [..., T, N, H] of any dtype as messages to heads, in `arena`, of which it takes pack_bytes.
  Tensor pack(Tensor tokens, int groups, Arena& arena);
  std::size_t pack_bytes(const Tensor& tokens) const;
  /// Room in `arena` for messages to [..., T, N, H], and the bytes that it takes.
  Tensor make_room(const Tensor& tokens, int groups, Arena& arena) const;
  std::size_t room_bytes(const Tensor& tokens) const;
  /// These messages as [..., T, N, H]. Of a head that several ranks share the sum is written, which
  /// is its gradient; fp32 there.
  void unpack(Tensor messages, Tensor tokens);

  /// One value a row of attention, which is sent as it lies and sorted on arrival. U divides N.
  struct Rows {
    Tensor tokens;   ///< [B, N, T]
    Tensor arrived;  ///< [G, U, B, n / G T]
    Tensor heads;    ///< [G, B, n / G, U T]
  };
  /// Room in the arena beside `tokens`.
  Rows make_rows(Tensor tokens, int groups) const;

  /// Sends head group `group` of messages into heads, once the compute stream has done what it has
  /// now.
  void to_heads(int group, std::span<const Sides> tensors, const Rows& rows = {});
  /// Lets the compute stream wait for that, and sorts `rows`.
  void wait_for_heads(int group, const Rows& rows = {});
  /// Sends head group `group` of heads into messages, once the compute stream has done what it has
  /// now.
  void to_tokens(int group, std::span<const Sides> tensors);
  /// Lets the compute stream wait for the last of these, `group`.
  void wait_for_tokens(int group);

 private:
  Context& context_;
  LayerMessages messages_;
  std::vector<std::unique_ptr<Event>> arrived_;  // heads, by group
  std::unique_ptr<Event> returned_;              // tokens, the last so far
};

}  // namespace ringtrain
