#include "ringtrain/model/rope.h"

#include <cmath>
#include <numbers>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

// The wavelength in tokens decides: beyond original / low_freq_factor it is stretched by the
// factor, below original / high_freq_factor it rests, between the two it is interpolated.
double scale_llama3(double frequency, const RopeScaling& scaling) {
  const auto original = static_cast<double>(scaling.original_max_position_embeddings);
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < original / scaling.high_freq_factor) return frequency;
  if (wavelength > original / scaling.low_freq_factor) return frequency / scaling.factor;
  const double smooth = (original / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

}  // namespace

std::vector<float> rope_inverse_frequencies(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const std::int64_t head_dim = config.head_size();
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    double frequency =
        std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (scaling.type == "linear") {
      frequency /= scaling.factor;
    } else if (scaling.type == "llama3") {
      frequency = scale_llama3(frequency, scaling);
    } else if (scaling.type != "default") {
      throw InvalidArgument("rope_scaling type '" + scaling.type +
                            "' is unknown; one of default, linear, llama3");
    }
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

}  // namespace ringtrain
