#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ringtrain/core/device.h"
#include "ringtrain/ops/backend.h"

/// Timing of attention, alone on one device.
namespace ringtrain {

/// What is timed. A ring step adds to dquery in fp32 and leaves fp32 gradients of its keys; the
/// whole backward pass also forms delta, zeroes dquery and rounds the three gradients to the
/// compute type, so that its result is what other libraries return.
enum class AttentionPass { kForward, kBackward, kBackwardStep };
/// "forward", "backward", "backward_step".
std::string_view name_of(AttentionPass pass);
/// Inverse of name_of. Errors: InvalidArgument listing the names.
AttentionPass parse_attention_pass(std::string_view name);

struct AttentionBenchCase {
  std::int64_t head_dim = 128;
  std::int64_t heads = 16;
  std::int64_t kv_heads = 16;  ///< divides heads
  std::int64_t seq_length = 16384;
  std::int64_t batch = 1;
  bool causal = true;
  AttentionPass pass = AttentionPass::kForward;

  /// 4 B S^2 heads head_dim forward and 2.5 times that backward; half under a causal mask.
  double flops() const;
};

/// head_dims 128 and 64 at 4K, 16K and 32K tokens, causal and full, and grouped heads.
std::vector<AttentionBenchCase> standard_attention_cases();

/// Milliseconds of single calls, by the device's clock: the median of `runs` after `warmups`, on
/// random normal inputs.
/// Errors: InvalidArgument for sizes below 1 or kv_heads that do not divide heads.
double time_attention(Device& device, Backend& ops, DType compute, const AttentionBenchCase& what,
                      int warmups, int runs);

}  // namespace ringtrain
