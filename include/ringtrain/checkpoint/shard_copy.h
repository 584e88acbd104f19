#pragma once

#include <cstdint>
#include <vector>

#include "ringtrain/core/device.h"
#include "ringtrain/core/tensor.h"

namespace ringtrain {

/// Copies between a rank's shards on the device and host floats, through a fixed piece of pinned
/// memory. Every call blocks until its elements have arrived.
class ShardCopy {
 public:
  /// `stream` orders the copies after the work that wrote the shards.
  ShardCopy(Device& device, Stream& stream);

  /// Elements [begin, begin + values.size()) of `shard` (fp32 or bf16) become `values`, rounded to
  /// nearest even.
  void upload(const Tensor& shard, std::int64_t begin, const std::vector<float>& values);
  /// All elements of `shard` become zero.
  void zero(const Tensor& shard);
  /// Elements [begin, begin + count) of `shard` (fp32 or bf16) as floats.
  std::vector<float> download(const Tensor& shard, std::int64_t begin, std::int64_t count);

 private:
  Device& device_;
  Stream& stream_;
  HostMemory staging_;
};

}  // namespace ringtrain
