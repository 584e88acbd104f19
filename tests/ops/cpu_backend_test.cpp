#include <gtest/gtest.h>
#include <omp.h>

#include "ringtrain/core/cpu_stream.h"
#include "ringtrain/core/error.h"
#include "support/attention_problem.h"

namespace ringtrain {
namespace {

class CpuBackendTest : public ::testing::Test {
 protected:
  void TearDown() override { omp_set_num_threads(threads_); }

  TestDevice& cpu_ = TestDevice::shared(DeviceType::kCpu);
  int threads_ = omp_get_max_threads();
};

TEST_F(CpuBackendTest, CompletesPendingCommunicationFirst) {
  const Arena::Scope scope(cpu_.arena());
  const Tensor in = cpu_.upload(HostTensor({1}, 1), DType::kFloat32);
  const Tensor inout = cpu_.upload(HostTensor({1}, 10), DType::kFloat32);
  CpuStream::of(cpu_.stream()).defer([&] { in.data<float>()[0] = 5; });
  cpu_.backend().add(in, inout, cpu_.stream());
  EXPECT_EQ(inout.data<float>()[0], 15);
}

TEST_F(CpuBackendTest, RefusesStreamsOfOtherDevices) {
  const Arena::Scope scope(cpu_.arena());
  const auto meta = make_meta_device();
  const auto stream = meta->make_stream(StreamPriority::kNormal);
  const Tensor out = cpu_.poisoned({1}, DType::kFloat32);
  EXPECT_THROW(cpu_.backend().fill(out, 0, *stream), InvalidArgument);
}

TEST_F(CpuBackendTest, BitsDoNotDependOnTheNumberOfThreads) {
  const auto run = [&](int threads) {
    omp_set_num_threads(threads);
    const Arena::Scope scope(cpu_.arena());
    const AttentionProblem problem = random_attention({1, 300, 4, 64}, 300, 2, 1, DType::kFloat32);
    const AttentionResult attention = attend(cpu_, DType::kFloat32, problem);
    const Tensor x = cpu_.upload(random_normal({300, 520}, 5), DType::kFloat32);
    const Tensor weight = cpu_.upload(random_normal({520}, 6), DType::kFloat32);
    const Tensor out = cpu_.poisoned({300, 520}, DType::kFloat32);
    const Tensor rstd = cpu_.poisoned({300}, DType::kFloat32);
    const Tensor dweight = cpu_.upload(HostTensor({520}), DType::kFloat32);
    const Tensor product = cpu_.poisoned({520, 520}, DType::kFloat32);
    const Tensor sums = cpu_.upload(HostTensor({1}), DType::kFloat64);
    const Tensor range = cpu_.upload(std::vector<std::int64_t>{0, 520 * 520, 0, 1}, {1, 4});
    cpu_.backend().rms_norm({.x = x, .weight = weight, .out = out, .rstd = rstd, .eps = 1e-5f},
                            cpu_.stream());
    cpu_.backend().rms_norm_backward({.dout = out,
                                      .x = x,
                                      .weight = weight,
                                      .rstd = rstd,
                                      .dx = cpu_.upload(HostTensor({300, 520}), DType::kFloat32),
                                      .dweight = dweight},
                                     cpu_.stream());
    cpu_.backend().matmul({.a = x, .b = out, .out = product, .transpose_a = true}, cpu_.stream());
    cpu_.backend().sum_of_squares(
        {.x = product.reshape({520 * 520}), .ranges = range, .sums = sums}, cpu_.stream());
    return std::vector<HostTensor>{
        attention.out,          attention.dquery,       attention.dkey,     attention.dvalue,
        cpu_.download(dweight), cpu_.download(product), cpu_.download(sums)};
  };
  const std::vector<HostTensor> one = run(1);
  const std::vector<HostTensor> three = run(3);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(all_close(three[i], one[i], {})) << i;
}

}  // namespace
}  // namespace ringtrain
