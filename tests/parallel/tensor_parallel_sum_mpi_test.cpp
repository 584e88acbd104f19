// Sums over tp beside the compute stream, on a device that copies, and in a group that sums, as
// late as the events allow.
#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "ringtrain/parallel/tensor_parallel_sum.h"
#include "support/late_device.h"
#include "support/rank_context.h"
#include "support/test_world.h"
#include "support/timed_sums.h"

namespace ringtrain {
namespace {

constexpr std::int64_t kElements = 5;

class TensorParallelSumTest : public ::testing::Test {
 protected:
  static int size() { return test_world().size(); }
  static int rank() { return test_world().rank(); }

  static Mesh late_mesh(Device& device) {
    const auto world = test_world().make_communicator(device);
    Mesh mesh = make_mesh(*world, device, {.tp = size()}, "tp,sp,fsdp,dp");
    mesh.tp = with_sums(SumTime::kLate, std::move(mesh.tp));
    return mesh;
  }

  // Written by the compute stream, late.
  Tensor upload(float value) {
    auto& values = host_.emplace_back(kElements, value);
    const Tensor tensor =
        context_->arena.allocate({kElements}, DType::kFloat32, MemoryKind::kActivations);
    device_.copy_to_device(tensor.raw(), values.data(), tensor.bytes(), context_->compute);
    return tensor;
  }
  // As the compute stream sees it now.
  std::vector<float> download(const Tensor& tensor) {
    std::vector<float> values(kElements);
    device_.copy_to_host(values.data(), tensor.raw(), tensor.bytes(), context_->compute);
    context_->compute.synchronise();
    return values;
  }
  static std::vector<float> all(float value) { return std::vector<float>(kElements, value); }
  // Of `scale` times the rank, over the ranks.
  static float sum(float scale) { return scale * static_cast<float>(size() * (size() - 1) / 2); }

  LateDevice device_;
  RankContext context_{device_, late_mesh(device_)};
  TensorParallelSum sum_{*context_};
  std::deque<std::vector<float>> host_;
};

TEST_F(TensorParallelSumTest, SumsWhatTheComputeStreamHasWritten) {
  const Tensor part = upload(static_cast<float>(rank()));
  sum_.start(part);
  sum_.finish();
  EXPECT_EQ(download(part), all(sum(1)));
}

TEST_F(TensorParallelSumTest, FinishesTheOldestFirst) {
  for (int round = 0; round < 2; ++round) {
    std::vector<Tensor> parts;
    for (int i = 1; i <= 3; ++i) {
      parts.push_back(upload(static_cast<float>(i * rank())));
      sum_.start(parts.back());
    }
    sum_.finish();
    EXPECT_EQ(download(parts[0]), all(sum(1)));
    EXPECT_EQ(download(parts[1]), all(static_cast<float>(2 * rank()))) << "not asked for yet";
    parts.push_back(upload(static_cast<float>(4 * rank())));
    sum_.start(parts.back());
    for (int i = 2; i <= 4; ++i) {
      sum_.finish();
      EXPECT_EQ(download(parts[static_cast<std::size_t>(i - 1)]), all(sum(static_cast<float>(i))));
    }
    sum_.finish();  // of nothing
  }
}

TEST_F(TensorParallelSumTest, AddsTheResidualOnce) {
  const Tensor part = upload(static_cast<float>(rank()));
  const Tensor residual = upload(100);
  sum_.start(part, residual);
  sum_.finish();
  EXPECT_EQ(download(part), all(sum(1) + 100));
  EXPECT_EQ(download(residual), all(100));
}

TEST_F(TensorParallelSumTest, OfOneRankIsThePart) {
  RankContext alone(device_, one_rank_mesh(device_));
  TensorParallelSum sum(*alone);
  const Tensor part = upload(3);
  const Tensor with_residual = upload(4);
  const Tensor residual = upload(100);
  context_->compute.synchronise();
  sum.start(part);
  sum.start(with_residual, residual);
  sum.finish();
  sum.finish();
  EXPECT_EQ(download(part), all(3));
  EXPECT_EQ(download(with_residual), all(104));
}

class LabelOfAWait final : public StepObserver {
 public:
  explicit LabelOfAWait(const Stream& compute) : compute_(compute) {}
  void begin(Stream& stream, const Label& label) override {
    if (&stream == &compute_) text += label.to_string() + ";";
  }
  void end(Stream&) override {}

  std::string text;

 private:
  const Stream& compute_;
};

TEST_F(TensorParallelSumTest, TheWaitIsCommunicationOfTheComputeStream) {
  LabelOfAWait label(context_->compute);
  context_->observer = &label;
  const Tensor part = upload(1);
  sum_.start(part);
  EXPECT_EQ(label.text, "");
  sum_.finish();
  EXPECT_EQ(label.text, "waiting for all_reduce on group tp;");
}

}  // namespace
}  // namespace ringtrain
