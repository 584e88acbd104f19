// The choice of remat_block=auto, on made-up memories.
#include "ringtrain/train/remat_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>

namespace ringtrain {
namespace {

constexpr std::int64_t kLayers = 12;

/// Memory in units of one layer's input, which its attention output is as large as. Slots for what
/// comes back from the host cost the device 4.
struct Machine {
  std::int64_t device, host;

  MemoryFit operator()(const RematMix& mix) const {
    const std::int64_t away = mix.offload + mix.offload_input;
    const std::int64_t on_device = mix.nothing + 2 * mix.save_attention + 10 * mix.dots +
                                   20 * mix.everything + (away > 0 ? 4 : 0);
    return {on_device <= device, 2 * mix.offload + mix.offload_input <= host};
  }
};

std::string chosen(std::int64_t device, std::int64_t host) {
  const auto mix = choose_remat(kLayers, Machine{device, host});
  return mix ? mix->to_string() : "none";
}

TEST(RematChoice, KeepsEverythingWhereItFits) {
  EXPECT_EQ(chosen(1000, 0), "everything_saveable");
  EXPECT_EQ(chosen(240, 0), "everything_saveable");
  EXPECT_EQ(chosen(239, 0), "dots_saveable:1,everything_saveable:11");
}

TEST(RematChoice, MixesNeighboursOnTheDevice) {
  EXPECT_EQ(chosen(120, 0), "dots_saveable");
  EXPECT_EQ(chosen(50, 0), "save_attention:9,dots_saveable:3");
  EXPECT_EQ(chosen(24, 0), "save_attention");
}

TEST(RematChoice, GoesToTheHostBeforeItComputesAgain) {
  EXPECT_EQ(chosen(23, 100), "offload:3,save_attention:9");
  EXPECT_EQ(chosen(4, 100), "offload");
}

TEST(RematChoice, ComputesAgainWhatFitsNowhere) {
  EXPECT_EQ(chosen(23, 0), "nothing_saveable:1,save_attention:11");
  EXPECT_EQ(chosen(12, 0), "nothing_saveable");
  // 11 on the device beside the slots leave 13 of 24 for the host, which takes 10.
  EXPECT_EQ(chosen(15, 10), "nothing_saveable:3,offload:5,save_attention:4");
  EXPECT_EQ(chosen(4, 12), "offload_input");
  // Inputs of layers that compute attention again go first.
  EXPECT_EQ(chosen(14, 7), "offload_input:7,save_attention:5");
}

TEST(RematChoice, SaysWhereNotEvenInputsFit) {
  EXPECT_EQ(chosen(11, 0), "none");
  EXPECT_EQ(chosen(3, 100), "none");
  EXPECT_EQ(chosen(4, 11), "none");
}

TEST(RematChoice, KeepsLeastWhereNothingFits) {
  EXPECT_EQ(least_remat(DeviceType::kCuda), "offload_input");
  EXPECT_EQ(least_remat(DeviceType::kCpu), "nothing_saveable");
}

TEST(RematChoice, UsesAllMemoryThatHelps) {
  for (std::int64_t device = 12; device < 30; ++device) {
    for (std::int64_t host = 0; host < 30; ++host) {
      const auto mix = choose_remat(kLayers, Machine{device, host});
      ASSERT_TRUE(mix.has_value());
      const Machine machine{device, host};
      const MemoryFit fit = machine(*mix);
      EXPECT_TRUE(fit.device && fit.host) << device << " " << host << " " << mix->to_string();
      // Without the host, every unit beyond the inputs keeps one more attention output.
      const std::int64_t saved = mix->offload + mix->save_attention + mix->dots + mix->everything;
      EXPECT_GE(saved, std::min(kLayers, device - kLayers)) << device << " " << host;
    }
  }
}

}  // namespace
}  // namespace ringtrain
