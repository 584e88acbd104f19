#include "ringtrain/checkpoint/shard_copy.h"

#include <algorithm>
#include <cstring>

namespace ringtrain {
namespace {

constexpr std::size_t kStagingBytes = std::size_t{16} << 20;

}  // namespace

ShardCopy::ShardCopy(Device& device, Stream& stream)
    : device_(device), stream_(stream), staging_(device, kStagingBytes) {}

void ShardCopy::upload(const Tensor& shard, std::int64_t begin, const std::vector<float>& values) {
  const auto count = static_cast<std::int64_t>(values.size());
  const auto most = static_cast<std::int64_t>(kStagingBytes / size_of(shard.dtype()));
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t n = std::min(most, count - done);
    const Tensor target = shard.view(begin + done, {n});
    const Tensor staged(staging_.data(), shard.dtype(), {n});
    const float* from = values.data() + done;
    if (shard.dtype() == DType::kBFloat16) {
      std::transform(from, from + n, staged.data<bfloat16>(),
                     [](float value) { return bfloat16(value); });
    } else {
      std::copy(from, from + n, staged.data<float>());
    }
    device_.copy_to_device(target.raw(), staged.raw(), target.bytes(), stream_);
    stream_.synchronise();
    done += n;
  }
}

void ShardCopy::zero(const Tensor& shard) {
  const auto most = static_cast<std::int64_t>(kStagingBytes / size_of(shard.dtype()));
  std::memset(staging_.data(), 0, std::min(kStagingBytes, shard.bytes()));
  for (std::int64_t done = 0; done < shard.num_elements(); done += most) {
    const Tensor target = shard.view(done, {std::min(most, shard.num_elements() - done)});
    device_.copy_to_device(target.raw(), staging_.data(), target.bytes(), stream_);
  }
  stream_.synchronise();
}

std::vector<float> ShardCopy::download(const Tensor& shard, std::int64_t begin,
                                       std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  const auto most = static_cast<std::int64_t>(kStagingBytes / size_of(shard.dtype()));
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t n = std::min(most, count - done);
    const Tensor source = shard.view(begin + done, {n});
    const Tensor staged(staging_.data(), shard.dtype(), {n});
    device_.copy_to_host(staged.raw(), source.raw(), source.bytes(), stream_);
    stream_.synchronise();
    float* to = values.data() + done;
    if (shard.dtype() == DType::kBFloat16) {
      std::transform(staged.data<bfloat16>(), staged.data<bfloat16>() + n, to,
                     [](bfloat16 value) { return static_cast<float>(value); });
    } else {
      std::copy(staged.data<float>(), staged.data<float>() + n, to);
    }
    done += n;
  }
  return values;
}

}  // namespace ringtrain
