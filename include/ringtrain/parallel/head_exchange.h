#pragma once

#include "ringtrain/parallel/context.h"

namespace ringtrain {

/// The exchange of heads for tokens between the ranks of a ulysses group (DeepSpeed-Ulysses,
/// arXiv:2309.14509): instead of all heads of its own tokens, a rank has some heads of the tokens
/// of the whole group, and attention needs nothing else of them.
///
/// Letters     U ranks of the group, B batch, T tokens of this rank, U T those of the group in the
///             order of ranks; N heads of a tensor (query or key/value), of which rank u gets
///             n = max(N / U, 1): heads u n to (u + 1) n, or where U > N head u N / U, which U / N
///             ranks then share
/// Collective  all ranks of the group, with equal shapes; on the compute stream
/// Memory      results and messages in the arena; what is returned lies in the innermost scope
/// Errors      InvalidArgument where neither of U and N divides the other
class HeadExchange {
 public:
  explicit HeadExchange(Context& context) : context_(context) {}

  int size() const { return context_.mesh.ulysses->size(); }

  /// [..., T, N, H] of this rank's tokens as [..., U T, n, H] of its heads. Any dtype.
  Tensor to_heads(Tensor tokens);
  /// The way back: [..., U T, n, H] into [..., T, N, H]. Of a head that several ranks share the sum
  /// is written, which is its gradient. fp32 where U > N.
  void to_tokens(Tensor heads, Tensor tokens);
  /// [B, N, T] as [B, n, U T], of one value a row of attention. U divides N.
  Tensor rows_to_heads(Tensor tokens);

 private:
  Context& context_;
};

}  // namespace ringtrain
