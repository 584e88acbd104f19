#include "ringtrain/optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

OptimizerConfig adamw_config() {
  OptimizerConfig config;
  config.adamw_optimizer = {
      .init_lr = 0.1, .end_lr = 0.2, .lr = 1.0, .lr_warmup_steps = 4, .lr_decay_steps = 12};
  return config;
}

TEST(ScheduleTest, WarmsUpLinearlyFromTheFirstUpdate) {
  const OptimizerConfig config = adamw_config();
  EXPECT_DOUBLE_EQ(learning_rate(config, 0), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(config, 2), 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(config, 4), 1.0);
}

TEST(ScheduleTest, DecayCountsTheWarmupIn) {
  const OptimizerConfig config = adamw_config();
  EXPECT_DOUBLE_EQ(learning_rate(config, 8), 0.6);  // half-way from 4 to 12: the middle
  EXPECT_DOUBLE_EQ(learning_rate(config, 12), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(config, 1000), 0.2);
  EXPECT_NEAR(learning_rate(config, 6), 0.2 + 0.8 * 0.5 * (1 + std::sqrt(0.5)), 1e-15);
}

TEST(ScheduleTest, WithoutWarmupStartsAtThePeak) {
  OptimizerConfig config = adamw_config();
  config.adamw_optimizer.lr_warmup_steps = 0;
  EXPECT_DOUBLE_EQ(learning_rate(config, 0), 1.0);
}

TEST(ScheduleTest, PalmIsConstantThenFallsWithTheSquareRoot) {
  OptimizerConfig config;
  config.type = "palm";
  config.palm_optimizer.lr = 0.02;
  config.palm_optimizer.lr_warmup_steps = 100;
  EXPECT_NEAR(learning_rate(config, 0), 0.2, 1e-8);
  EXPECT_NEAR(learning_rate(config, 100), 0.2, 1e-8);
  EXPECT_NEAR(learning_rate(config, 400), 0.1, 1e-8);
}

TEST(ScheduleTest, DefaultsAreAccepted) {
  OptimizerConfig config;
  EXPECT_NO_THROW(check_optimizer(config));
  config.type = "palm";
  EXPECT_NO_THROW(check_optimizer(config));
  config.palm_optimizer.clip_gradient = std::numeric_limits<double>::infinity();
  EXPECT_NO_THROW(check_optimizer(config));
}

TEST(ScheduleTest, RefusesSettingsThatMakeNoSense) {
  const auto expect_refused = [](auto change, const std::string& expected) {
    OptimizerConfig config;
    change(config);
    try {
      check_optimizer(config);
      ADD_FAILURE() << expected << " was accepted";
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
  };
  expect_refused([](OptimizerConfig& c) { c.type = "sgd"; }, "adamw or palm");
  expect_refused([](OptimizerConfig& c) { c.accumulate_gradient_steps = 0; },
                 "accumulate_gradient_steps=0");
  expect_refused([](OptimizerConfig& c) { c.adamw_optimizer.lr_decay_steps = 2000; },
                 "adamw_optimizer.lr_decay_steps=2000");
  expect_refused([](OptimizerConfig& c) { c.adamw_optimizer.b1 = 1.0; }, "adamw_optimizer.b1=1");
  expect_refused([](OptimizerConfig& c) { c.adamw_optimizer.clip_gradient = 0; },
                 "adamw_optimizer.clip_gradient=0");
  expect_refused(
      [](OptimizerConfig& c) {
        c.type = "palm";
        c.palm_optimizer.lr_warmup_steps = 0;
      },
      "palm_optimizer.lr_warmup_steps=0");
}

}  // namespace
}  // namespace ringtrain
