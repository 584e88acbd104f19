#pragma once

#include <gtest/gtest.h>

#include "support/gpu.h"

namespace ringtrain {

/// A test that runs on every type of device that has memory: cases are "cpu" and "cuda".
class DeviceTest : public ::testing::TestWithParam<DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceType::kCuda) RT_SKIP_WITHOUT_GPU();
  }
};

}  // namespace ringtrain

#define RT_INSTANTIATE_DEVICE_TEST(Fixture)                                                  \
  INSTANTIATE_TEST_SUITE_P(                                                                  \
      Devices, Fixture,                                                                      \
      ::testing::Values(::ringtrain::DeviceType::kCpu, ::ringtrain::DeviceType::kCuda),      \
      [](const auto& device) {                                                               \
        return std::string(device.param == ::ringtrain::DeviceType::kCuda ? "cuda" : "cpu"); \
      })
