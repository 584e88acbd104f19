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

  /// `saved` layers keep their attention output: the least in host memory that makes the rest fit
  /// on the device. The first step costs the device two slots before it frees anything, so that
  /// nothing in host memory is asked about apart.
  std::optional<RematMix> place(std::int64_t saved) const {
    const auto with_offloaded = [&](std::int64_t count) {
      return RematMix{
          .nothing = layers_ - saved, .offload = count, .save_attention = saved - count};
    };
    const auto with_inputs = [&](std::int64_t count) {
      return RematMix{.offload_input = count, .nothing = layers_ - saved - count, .offload = saved};
    };
    const auto on_device = [&](const RematMix& mix) { return fits_(mix).device; };
    RematMix mix = with_offloaded(0);
    if (!on_device(mix)) {
      const auto offloaded =
          smallest(1, saved, [&](std::int64_t n) { return on_device(with_offloaded(n)); });
      const auto inputs =
          offloaded ? std::nullopt : smallest(1, layers_ - saved, [&](std::int64_t n) {
            return on_device(with_inputs(n));
          });
      if (!offloaded && !inputs) return std::nullopt;
      mix = offloaded ? with_offloaded(*offloaded) : with_inputs(*inputs);
    }
    if (!fits(mix)) return std::nullopt;
    return mix;
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

}  // namespace ringtrain
