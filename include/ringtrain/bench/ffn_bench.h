#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ringtrain/core/device.h"
#include "ringtrain/ops/backend.h"

/// Timing of a SwiGLU feed-forward block, (silu(x w1^T) (x w3^T)) w2^T, alone on one device.
namespace ringtrain {

/// What is timed. A backward pass gives the gradients of x, in the compute type, and of the
/// weights in fp32, as in the first micro-batch of an update: later chunks add to what the first
/// one stores. It finds gate and up where the forward pass kept them, or, repeating, computes them
/// again from x.
enum class FfnPass { kForward, kForwardKeeping, kBackward, kBackwardRepeating };
/// "forward", "forward_keeping", "backward", "backward_repeating".
std::string_view name_of(FfnPass pass);
/// Inverse of name_of. Errors: InvalidArgument listing the names.
FfnPass parse_ffn_pass(std::string_view name);
std::vector<std::string_view> ffn_pass_names();

struct FfnBenchCase {
  std::int64_t tokens = 8192;
  std::int64_t hidden = 4096;
  std::int64_t ffn = 11008;
  std::int64_t chunk = 0;  ///< tokens at a time; 0 for all
  FfnPass pass = FfnPass::kForward;

  /// 6 tokens hidden ffn forward and twice that backward: what is repeated does not count.
  double flops() const;
};

/// The widths of LLaMA-7B and 13B at 8K and 32K tokens.
std::vector<FfnBenchCase> standard_ffn_cases();

/// Milliseconds of single calls, by the device's clock: the median of `runs` after `warmups`, on
/// random normal inputs.
/// Errors: InvalidArgument for sizes below 1.
double time_ffn(Device& device, Backend& ops, DType compute, const FfnBenchCase& what, int warmups,
                int runs);

}  // namespace ringtrain
