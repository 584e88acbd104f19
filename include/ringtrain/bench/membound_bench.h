#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "ringtrain/core/device.h"
#include "ringtrain/ops/backend.h"

/// Timing of the operations of a step that memory bounds, beside a copy on the device.
namespace ringtrain {

/// What a step works on; LLaMA-7B's by default, and tokens enough for every tensor to be several
/// times the L2 cache.
struct MemboundSizes {
  std::int64_t tokens = 16384;
  std::int64_t hidden = 4096;
  std::int64_t heads = 32;
  std::int64_t kv_heads = 32;
  std::int64_t head_dim = 128;
  std::int64_t vocabulary = 32000;
  std::int64_t parameters = 202383360;  ///< of a rank's shard of a unit; a layer's
};

/// Their names, in the order of the table; the first is the copy.
std::vector<std::string_view> membound_operations();

struct MemboundResult {
  std::string_view operation;
  double bytes;  ///< that must be read and written, each tensor once
  double ms;

  double bytes_per_s() const { return bytes / ms * 1e3; }
};

/// The operation by median_ms (bench/timing.h). Errors: InvalidArgument for an unknown one.
MemboundResult time_membound(Device& device, Backend& ops, DType compute,
                             const MemboundSizes& sizes, std::string_view operation, int warmups,
                             int runs);

}  // namespace ringtrain
