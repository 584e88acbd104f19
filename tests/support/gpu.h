#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "ringtrain/core/device.h"

/// Skips the test visibly where there is no GPU; fails it instead under RINGTRAIN_REQUIRE_GPU=1.
#define RT_SKIP_WITHOUT_GPU()                                            \
  do {                                                                   \
    if (::ringtrain::cuda_device_count() == 0) {                         \
      const char* required = std::getenv("RINGTRAIN_REQUIRE_GPU");       \
      if (required != nullptr && std::string_view(required) == "1") {    \
        GTEST_FAIL() << "RINGTRAIN_REQUIRE_GPU=1 and no GPU is visible"; \
      }                                                                  \
      GTEST_SKIP() << "no GPU";                                          \
    }                                                                    \
  } while (false)
