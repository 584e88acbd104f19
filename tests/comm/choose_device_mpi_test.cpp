#include <gtest/gtest.h>

#include "ringtrain/core/error.h"
#include "support/gpu.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

TEST(ChooseDevice, TakesTheCpuWhenTold) {
  EXPECT_EQ(choose_device(test_world(), "cpu", false)->type(), DeviceType::kCpu);
  EXPECT_THROW(choose_device(test_world(), "tpu", false), InvalidArgument);
}

TEST(ChooseDevice, AutoFallsBackAndCudaDoesNot) {
  if (test_world().any(cuda_device_count() > 0)) GTEST_SKIP() << "there is a GPU";
  EXPECT_EQ(choose_device(test_world(), "auto", false)->type(), DeviceType::kCpu);
  EXPECT_THROW(choose_device(test_world(), "cuda", true), DeviceError);
}

TEST(ChooseDevice, RanksShareAGpuOnlyWhenAllowed) {
  RT_SKIP_WITHOUT_GPU();
  World& world = test_world();
  EXPECT_EQ(choose_device(world, "auto", true)->type(), DeviceType::kCuda);
  if (world.local_size() > cuda_device_count()) {
    EXPECT_THROW(choose_device(world, "auto", false), InvalidArgument);
  } else {
    EXPECT_EQ(choose_device(world, "cuda", false)->type(), DeviceType::kCuda);
  }
}

}  // namespace
}  // namespace ringtrain
