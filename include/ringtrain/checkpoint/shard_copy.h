#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ringtrain/core/device.h"
#include "ringtrain/core/tensor.h"
#include "ringtrain/parallel/parameter_table.h"

namespace ringtrain {

/// Copies between a rank's shards and host floats: shards on the device through a fixed piece of
/// pinned memory, shards in host memory as they are. Every call blocks until its elements have
/// arrived.
class ShardCopy {
 public:
  /// `stream` orders the copies after the work that wrote the shards.
  ShardCopy(Device& device, Stream& stream);

  /// Elements [begin, begin + values.size()) of a unit's shard (fp32 or bf16) become `values`,
  /// rounded to nearest even.
  void upload(const ShardFamily& family, std::size_t unit, std::int64_t begin,
              const std::vector<float>& values);
  /// All elements of a unit's shard become zero.
  void zero(const ShardFamily& family, std::size_t unit);
  /// Elements [begin, begin + count) of a unit's shard (fp32 or bf16) as floats.
  std::vector<float> download(const ShardFamily& family, std::size_t unit, std::int64_t begin,
                              std::int64_t count);

  /// The same for a tensor on the device.
  void upload(const Tensor& tensor, std::int64_t begin, const std::vector<float>& values);
  void zero(const Tensor& tensor);
  std::vector<float> download(const Tensor& tensor, std::int64_t begin, std::int64_t count);

 private:
  Device& device_;
  Stream& stream_;
  HostMemory staging_;
};

}  // namespace ringtrain
