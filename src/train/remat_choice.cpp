#include "ringtrain/train/remat_choice.h"

#include <fmt/format.h>

#include <array>
#include <utility>

namespace ringtrain {
namespace {

/// The smallest value of [low, high] for which `holds`, which is true from there on; else nothing.
template <typename Predicate>
std::optional<std::int64_t> smallest(std::int64_t low, std::int64_t high, const Predicate& holds) {
  if (low > high || !holds(high)) return std::nullopt;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (holds(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return high;
}

/// The largest value of [0, high] for which `holds`, which is true up to there; else nothing.
template <typename Predicate>
std::optional<std::int64_t> largest(std::int64_t high, const Predicate& holds) {
  const auto lost =
      smallest(0, high, [&](std::int64_t less) { return static_cast<bool>(holds(high - less)); });
  if (!lost) return std::nullopt;
  return high - *lost;
}

class Search {
 public:
  Search(std::int64_t layers, const std::function<MemoryFit(const RematMix&)>& fits)
      : layers_(layers), fits_(fits) {}

  std::optional<RematMix> run() const {
    const auto saved =
        largest(layers_, [&](std::int64_t count) { return place(count).has_value(); });
    if (!saved) return std::nullopt;
    const RematMix mix = *place(*saved);
    return mix.save_attention == layers_ ? keep_more(mix) : mix;
  }

 private:
  bool fits(const RematMix& mix) const {
    const MemoryFit fit = fits_(mix);
    return fit.device && fit.host;
  }

  struct Away {
    std::int64_t inputs = 0;  ///< layers that compute attention again, with their input on the host
    std::int64_t offload = 0;  ///< layers that keep attention, with both on the host
  };
  RematMix mix_of(std::int64_t saved, const Away& away) const {
    return {.offload_input = away.inputs,
            .nothing = layers_ - saved - away.inputs,
            .offload = away.offload,
            .save_attention = saved - away.offload};
  }

  /// `saved` layers keep their attention output: the least in host memory that makes the rest fit
  /// on the device, inputs of the other layers first or, where that leads nowhere, last.
  std::optional<RematMix> place(std::int64_t saved) const {
    const std::int64_t others = layers_ - saved;
    const auto inputs = [](std::int64_t n) { return Away{.inputs = n}; };
    const auto all_inputs_and = [&](std::int64_t n) { return Away{others, n}; };
    const auto offload = [](std::int64_t n) { return Away{.offload = n}; };
    const auto all_offload_and = [&](std::int64_t n) { return Away{n, saved}; };
    auto mix = least_away(saved, others, inputs);
    if (!mix) mix = least_away(saved, saved, all_inputs_and);
    if (mix && fits(*mix)) return mix;
    mix = least_away(saved, saved, offload);
    if (!mix) mix = least_away(saved, others, all_offload_and);
    if (mix && fits(*mix)) return mix;
    return std::nullopt;
  }

  /// The mix of the fewest steps that fits on the device. The first step costs the device two slots
  /// before it frees anything, so none at all is asked about apart.
  template <typename Steps>
  std::optional<RematMix> least_away(std::int64_t saved, std::int64_t most,
                                     const Steps& steps) const {
    const auto on_device = [&](std::int64_t n) { return fits_(mix_of(saved, steps(n))).device; };
    if (on_device(0)) return mix_of(saved, steps(0));
    const auto count = smallest(1, most, on_device);
    if (!count) return std::nullopt;
    return mix_of(saved, steps(*count));
  }

  RematMix keep_more(const RematMix& saved) const {
    const auto dots = [&](std::int64_t n) {
      return RematMix{.save_attention = layers_ - n, .dots = n};
    };
    const auto everything = [&](std::int64_t n) {
      return RematMix{.dots = layers_ - n, .everything = n};
    };
    const auto with_dots = largest(layers_, [&](std::int64_t n) { return fits(dots(n)); });
    if (with_dots.value_or(0) < layers_) return dots(with_dots.value_or(0));
    const auto with_all = largest(layers_, [&](std::int64_t n) { return fits(everything(n)); });
    return with_all ? everything(*with_all) : saved;
  }

  std::int64_t layers_;
  const std::function<MemoryFit(const RematMix&)>& fits_;
};

}  // namespace

std::string RematMix::to_string() const {
  const std::array<std::pair<const char*, std::int64_t>, 6> parts{
      {{"offload_input", offload_input},
       {"nothing_saveable", nothing},
       {"offload", offload},
       {"save_attention", save_attention},
       {"dots_saveable", dots},
       {"everything_saveable", everything}}};
  std::string text;
  std::string last;
  int count = 0;
  for (const auto& [name, layers] : parts) {
    if (layers == 0) continue;
    text += fmt::format("{}{}:{}", text.empty() ? "" : ",", name, layers);
    last = name;
    ++count;
  }
  return count == 1 ? last : text;
}

std::optional<RematMix> choose_remat(std::int64_t layers,
                                     const std::function<MemoryFit(const RematMix&)>& fits) {
  return Search(layers, fits).run();
}

std::string least_remat(DeviceType device) {
  return device == DeviceType::kCpu ? "nothing_saveable" : "offload_input";
}

}  // namespace ringtrain
