#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "ringtrain/core/device.h"
#include "ringtrain/train/memory_plan.h"

namespace ringtrain {

/// How many layers follow each policy of remat_block, the first layers first. Layers that keep more
/// on the device come later: the backward pass has freed them when it comes to the others, which
/// want memory to compute again or to copy back.
struct RematMix {
  std::int64_t offload_input = 0;
  std::int64_t nothing = 0;
  std::int64_t offload = 0;
  std::int64_t save_attention = 0;
  std::int64_t dots = 0;
  std::int64_t everything = 0;

  /// As remat_block takes it: "offload:12,save_attention:20", or one policy's name.
  std::string to_string() const;
};

/// The mix that computes least again among those that fit, for `layers` layers that are alike:
///   1. as many layers as possible keep their attention output, on the device or in host memory;
///   2. of these, and of all inputs, as little as possible goes to the host;
///   3. where nothing must, layers keep more: matrix products, then everything.
/// `fits` is asked a number of times that grows with the square of log2(layers): for each of
/// log2(layers) counts in step 1, up to four binary searches over layers. It should answer alike
/// for all ranks of a run. Keeping more on a side must not make it fit better. Nothing where not
/// even inputs fit.
std::optional<RematMix> choose_remat(std::int64_t layers,
                                     const std::function<MemoryFit(const RematMix&)>& fits);

/// The policy for where nothing fits: the one that keeps least in the memory of the device, which
/// on the CPU is that of the host.
std::string least_remat(DeviceType device);

}  // namespace ringtrain
