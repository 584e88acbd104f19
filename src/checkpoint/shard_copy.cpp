#include "ringtrain/checkpoint/shard_copy.h"

#include <algorithm>
#include <cstring>

namespace ringtrain {
namespace {

constexpr std::size_t kStagingBytes = std::size_t{16} << 20;

std::int64_t most_elements(const Tensor& tensor) {
  return static_cast<std::int64_t>(kStagingBytes / size_of(tensor.dtype()));
}

// `to` is in host memory.
void from_floats(const float* from, const Tensor& to) {
  const std::int64_t n = to.num_elements();
  if (to.dtype() == DType::kBFloat16) {
    std::transform(from, from + n, to.data<bfloat16>(),
                   [](float value) { return bfloat16(value); });
  } else {
    std::copy(from, from + n, to.data<float>());
  }
}

// `from` is in host memory.
void to_floats(const Tensor& from, float* to) {
  const std::int64_t n = from.num_elements();
  if (from.dtype() == DType::kBFloat16) {
    std::transform(from.data<bfloat16>(), from.data<bfloat16>() + n, to,
                   [](bfloat16 value) { return static_cast<float>(value); });
  } else {
    std::copy(from.data<float>(), from.data<float>() + n, to);
  }
}

}  // namespace

ShardCopy::ShardCopy(Device& device, Stream& stream)
    : device_(device), stream_(stream), staging_(device, kStagingBytes) {}

void ShardCopy::upload(const ShardFamily& family, std::size_t unit, std::int64_t begin,
                       const std::vector<float>& values) {
  const Tensor& shard = family.shards[unit];
  if (!family.on_host) return upload(shard, begin, values);
  stream_.synchronise();
  from_floats(values.data(), shard.view(begin, {static_cast<std::int64_t>(values.size())}));
}

void ShardCopy::zero(const ShardFamily& family, std::size_t unit) {
  const Tensor& shard = family.shards[unit];
  if (!family.on_host) return zero(shard);
  stream_.synchronise();
  std::memset(shard.raw(), 0, shard.bytes());
}

std::vector<float> ShardCopy::download(const ShardFamily& family, std::size_t unit,
                                       std::int64_t begin, std::int64_t count) {
  const Tensor& shard = family.shards[unit];
  if (!family.on_host) return download(shard, begin, count);
  stream_.synchronise();
  std::vector<float> values(static_cast<std::size_t>(count));
  to_floats(shard.view(begin, {count}), values.data());
  return values;
}

void ShardCopy::upload(const Tensor& tensor, std::int64_t begin, const std::vector<float>& values) {
  const auto count = static_cast<std::int64_t>(values.size());
  const std::int64_t most = most_elements(tensor);
  for (std::int64_t done = 0; done < count; done += most) {
    const std::int64_t n = std::min(most, count - done);
    const Tensor target = tensor.view(begin + done, {n});
    const Tensor staged(staging_.data(), tensor.dtype(), {n});
    from_floats(values.data() + done, staged);
    device_.copy_to_device(target.raw(), staged.raw(), target.bytes(), stream_);
    stream_.synchronise();
  }
}

void ShardCopy::zero(const Tensor& tensor) {
  const std::int64_t most = most_elements(tensor);
  std::memset(staging_.data(), 0, std::min(kStagingBytes, tensor.bytes()));
  for (std::int64_t done = 0; done < tensor.num_elements(); done += most) {
    const Tensor target = tensor.view(done, {std::min(most, tensor.num_elements() - done)});
    device_.copy_to_device(target.raw(), staging_.data(), target.bytes(), stream_);
  }
  stream_.synchronise();
}

std::vector<float> ShardCopy::download(const Tensor& tensor, std::int64_t begin,
                                       std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  const std::int64_t most = most_elements(tensor);
  for (std::int64_t done = 0; done < count; done += most) {
    const std::int64_t n = std::min(most, count - done);
    const Tensor source = tensor.view(begin + done, {n});
    const Tensor staged(staging_.data(), tensor.dtype(), {n});
    device_.copy_to_host(staged.raw(), source.raw(), source.bytes(), stream_);
    stream_.synchronise();
    to_floats(staged, values.data() + done);
  }
  return values;
}

}  // namespace ringtrain
