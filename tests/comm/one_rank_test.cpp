#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "ringtrain/comm/communicator.h"
#include "ringtrain/core/error.h"
#include "support/gpu.h"

namespace ringtrain {
namespace {

/// Rows of floats in device memory, and the way there and back.
class OneRankTest : public ::testing::TestWithParam<DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceType::kCuda) RT_SKIP_WITHOUT_GPU();
    device_ = GetParam() == DeviceType::kCuda ? make_cuda_device(0) : make_cpu_device();
    stream_ = device_->make_stream(StreamPriority::kNormal);
    group_ = make_one_rank_communicator(*device_);
  }
  Tensor upload(std::vector<float> values) {
    memory_.push_back(std::make_unique<DeviceMemory>(*device_, values.size() * sizeof(float)));
    const Tensor tensor(memory_.back()->data(), DType::kFloat32,
                        {static_cast<std::int64_t>(values.size())});
    device_->copy_to_device(tensor.raw(), values.data(), tensor.bytes(), *stream_);
    stream_->synchronise();
    return tensor;
  }
  std::vector<float> download(const Tensor& tensor) {
    std::vector<float> values(static_cast<std::size_t>(tensor.num_elements()));
    device_->copy_to_host(values.data(), tensor.raw(), tensor.bytes(), *stream_);
    stream_->synchronise();
    return values;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
  std::unique_ptr<Communicator> group_;
};

TEST_P(OneRankTest, CollectivesCopyOrDoNothing) {
  const std::vector<float> values{1, 2, 3};
  const Tensor a = upload(values);
  group_->all_reduce(a, ReduceOp::kSum, *stream_);
  group_->broadcast(a, 0, *stream_);
  group_->all_gather(a, a, *stream_);
  group_->reduce_scatter(a, a, ReduceOp::kMax, *stream_);
  EXPECT_EQ(download(a), values);
  for (int operation = 0; operation < 3; ++operation) {
    const Tensor b = upload({0, 0, 0});
    if (operation == 0) group_->all_gather(a, b, *stream_);
    if (operation == 1) group_->reduce_scatter(a, b, ReduceOp::kSum, *stream_);
    if (operation == 2) group_->all_to_all(a, b, *stream_);
    EXPECT_EQ(download(b), values) << operation;
  }
}

TEST_P(OneRankTest, ExchangeWithItselfKeepsTheOrder) {
  const Tensor a = upload({1, 2, 3});
  const Tensor b = upload({4, 5});
  const Tensor to_a = upload({0, 0, 0});
  const Tensor to_b = upload({0, 0});
  const Transfer hop[] = {{a, 0, to_a, 0}, {b, 0, to_b, 0}};
  group_->exchange(hop, *stream_);
  EXPECT_EQ(download(to_a), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(download(to_b), (std::vector<float>{4, 5}));
  const Transfer crossed[] = {{a, 0, Tensor(), 0}, {Tensor(), 0, to_b, 0}};
  EXPECT_THROW(group_->exchange(crossed, *stream_), InvalidArgument) << "3 elements into 2";
}

TEST_P(OneRankTest, SplitsIntoItself) {
  const auto part = group_->split("tp", 5, 3, {});
  EXPECT_EQ(part->name(), "tp");
  EXPECT_EQ(part->rank(), 0);
  EXPECT_EQ(part->size(), 1);
  EXPECT_NO_THROW(part->check());
}

TEST_P(OneRankTest, MisfitsAreRefused) {
  const Tensor a = upload({1, 2, 3});
  const Tensor b = upload({1, 2});
  EXPECT_THROW(group_->all_gather(a, b, *stream_), InvalidArgument);
  EXPECT_THROW(group_->broadcast(a, 1, *stream_), InvalidArgument);
  EXPECT_THROW(group_->all_reduce({a.raw(), DType::kFloat16, {1}}, ReduceOp::kSum, *stream_),
               InvalidArgument);
}

std::string name_of_case(const ::testing::TestParamInfo<DeviceType>& info) {
  return info.param == DeviceType::kCuda ? "cuda" : "cpu";
}
INSTANTIATE_TEST_SUITE_P(Devices, OneRankTest,
                         ::testing::Values(DeviceType::kCpu, DeviceType::kCuda), name_of_case);

TEST(MetaCommunicator, ChecksShapesAndMovesNothing) {
  const auto device = make_meta_device();
  const auto stream = device->make_stream(StreamPriority::kNormal);
  const auto group = make_meta_communicator("param", 3, 8);
  EXPECT_EQ(group->name(), "param");
  EXPECT_EQ(group->rank(), 3);
  EXPECT_EQ(group->size(), 8);
  // Nobody may read the memory of the meta device: a copy would crash.
  const Tensor shard(device->allocate(1), DType::kBFloat16, {1 << 20});
  const Tensor whole(device->allocate(1), DType::kBFloat16, {8, 1 << 20});
  group->all_gather(shard, whole, *stream);
  group->reduce_scatter(whole, shard, ReduceOp::kSum, *stream);
  group->all_reduce(whole, ReduceOp::kMin, *stream);
  group->broadcast(whole, 7, *stream);
  const Transfer hop{shard, 4, whole.slice(0, 1).reshape({1 << 20}), 2};
  group->exchange({&hop, 1}, *stream);
  EXPECT_THROW(group->all_gather(whole, shard, *stream), InvalidArgument);
  EXPECT_THROW(group->broadcast(whole, 8, *stream), InvalidArgument);
  EXPECT_THROW(group->split("tp", 0, 0, {}), InvalidArgument);
  EXPECT_THROW(make_meta_communicator("tp", 2, 2), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain
