// Parameters after every update as optax computes them, with the original's optimizer chains
// (tests/golden/optim): every case is a .json with the settings, by the names of the flags, and a
// .safetensors with gradients and parameters.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/checkpoint/shard_copy.h"
#include "ringtrain/optim/optimizer.h"
#include "support/golden.h"
#include "support/gpu.h"
#include "support/rank_context.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The figures of optax are float32, as ours: the bound is a few roundings an update, over 12. It
// holds for the relative L2 error of each tensor, and for each element relative to the largest one
// unless the momentum is kept in bf16: there the last bit of the gradient norm, which optax sums in
// float32, can decide a tie of the momentum's rounding, and a single element is 2^-9 of it off.
constexpr double kTolerance = 1e-6;

// Takes `key` out of the settings, so that what is left over at the end is unknown to this test.
template <typename Value>
void take(json& settings, const char* key, Value& value) {
  if (!settings.contains(key)) return;
  value = settings[key].get<Value>();
  settings.erase(key);
}

template <typename Config>
void take_common(json& settings, Config& config) {
  take(settings, "lr", config.lr);
  take(settings, "lr_warmup_steps", config.lr_warmup_steps);
  take(settings, "b1", config.b1);
  take(settings, "b2", config.b2);
  take(settings, "clip_gradient", config.clip_gradient);
  take(settings, "weight_decay", config.weight_decay);
  take(settings, "bf16_momentum", config.bf16_momentum);
}

OptimizerConfig read_config(const fs::path& path) {
  json settings = json::parse(read_text(path));
  OptimizerConfig config;
  take(settings, "type", config.type);
  take(settings, "accumulate_gradient_steps", config.accumulate_gradient_steps);
  if (config.type == "palm") {
    take_common(settings, config.palm_optimizer);
  } else {
    AdamWConfig& adamw = config.adamw_optimizer;
    take_common(settings, adamw);
    take(settings, "init_lr", adamw.init_lr);
    take(settings, "end_lr", adamw.end_lr);
    take(settings, "lr_decay_steps", adamw.lr_decay_steps);
    take(settings, "multiply_by_parameter_scale", adamw.multiply_by_parameter_scale);
  }
  EXPECT_TRUE(settings.empty()) << "settings this test does not know: " << settings;
  return config;
}

// One tensor a "w", "b" of the file, each in a unit of its own.
ParameterTable make_table(const SafetensorsReader& file) {
  ParameterTable table(0, 1, 1);
  for (const auto& entry : file.entries()) {
    const std::string prefix = "param0.";
    if (!entry.name.starts_with(prefix)) continue;
    const std::string name = entry.name.substr(prefix.size());
    table.begin_unit(name);
    table.add(name, entry.shape, TpSplit::kReplicated);
  }
  table.finish();
  return table;
}

double nan_or_larger(double a, double b) {
  return b <= a ? a : b;
}

/// The optimizer on one rank, fed with tensors of the file.
class Replay {
 public:
  Replay(const SafetensorsReader& file, const OptimizerConfig& config, Device& device)
      : file_(file),
        rank_(device, one_rank_mesh(device)),
        table_(make_table(file)),
        optimizer_(config, table_, *rank_),
        copy_(device, rank_.stream()) {
    for (ShardFamily* family : {&masters_, &gradients_}) {
      for (const ParameterUnit& unit : table_.units()) {
        family->shards.push_back(
            rank_->arena.allocate({unit.num_elements}, DType::kFloat32, MemoryKind::kParameters));
        copy_.zero(family->shards.back());
      }
    }
    for (std::size_t u = 0; u < table_.units().size(); ++u) {
      copy_.upload(masters_.shards[u], 0, file.floats("param0." + table_.units()[u].name));
    }
  }

  Optimizer& optimizer() { return optimizer_; }

  /// Updates with the sum of the gradients of micro-steps [first, first + count).
  void update(int first, int count) {
    for (std::size_t u = 0; u < table_.units().size(); ++u) {
      std::vector<float> sum;
      for (int step = first; step < first + count; ++step) {
        const auto gradient =
            file_.floats("grad" + std::to_string(step) + "." + table_.units()[u].name);
        sum.resize(gradient.size());
        std::transform(sum.begin(), sum.end(), gradient.begin(), sum.begin(), std::plus<>());
      }
      copy_.upload(gradients_.shards[u], 0, sum);
    }
    optimizer_.update(masters_, gradients_, count, rank_.stream());
  }

  struct Errors {
    double relative_l2 = 0;  ///< the largest of any tensor
    double element = 0;      ///< largest difference relative to the largest element, of any tensor
  };
  /// Of the parameters after `step` micro-steps.
  Errors errors(int step) {
    Errors worst;
    for (std::size_t u = 0; u < table_.units().size(); ++u) {
      const ParameterUnit& unit = table_.units()[u];
      const auto expected = file_.floats("param" + std::to_string(step) + "." + unit.name);
      const auto actual =
          copy_.download(masters_.shards[u], 0, static_cast<std::int64_t>(expected.size()));
      double largest = 0;
      double difference = 0;
      double squares = 0;
      double squared_difference = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double distance = std::abs(double{actual[i]} - double{expected[i]});
        largest = std::max<double>(largest, std::abs(expected[i]));
        difference = nan_or_larger(difference, distance);
        squares += double{expected[i]} * double{expected[i]};
        squared_difference += distance * distance;
      }
      worst.element = nan_or_larger(worst.element, difference / largest);
      worst.relative_l2 = nan_or_larger(worst.relative_l2, std::sqrt(squared_difference / squares));
    }
    return worst;
  }

 private:
  const SafetensorsReader& file_;
  RankContext rank_;
  ParameterTable table_;
  Optimizer optimizer_;
  ShardCopy copy_;
  ShardFamily masters_;
  ShardFamily gradients_;
};

int num_micro_steps(const SafetensorsReader& file, const std::string& tensor) {
  int count = 0;
  while (file.find("grad" + std::to_string(count) + "." + tensor) != nullptr) ++count;
  return count;
}

void replay_all(Device& device) {
  const std::vector<fs::path> cases = golden_cases("optim", ".json");
  ASSERT_FALSE(cases.empty()) << "no cases under " << golden_directory() / "optim";
  for (const fs::path& name : cases) {
    SCOPED_TRACE(name.string());
    const OptimizerConfig config = read_config(name.string() + ".json");
    const SafetensorsReader file(name.string() + ".safetensors");
    Replay replay(file, config, device);
    const auto micro_steps = static_cast<int>(config.accumulate_gradient_steps);
    const bool has_rates = file.find("learning_rate") != nullptr;
    const std::vector<float> rates =
        has_rates ? file.floats("learning_rate") : std::vector<float>();
    const bool bf16_momentum =
        config.adamw_optimizer.bf16_momentum || config.palm_optimizer.bf16_momentum;
    double worst = 0;
    const int num_steps = num_micro_steps(file, "w");
    EXPECT_GT(num_steps, 0);
    for (int step = 1; step <= num_steps; ++step) {
      if (step % micro_steps == 0) {
        const int update = step / micro_steps - 1;
        if (has_rates) {
          const double expected = rates[static_cast<std::size_t>(update)];
          EXPECT_NEAR(replay.optimizer().learning_rate(), expected, 1e-6 * std::abs(expected));
        }
        replay.update(step - micro_steps, micro_steps);
      }
      const Replay::Errors errors = replay.errors(step);
      EXPECT_LE(errors.relative_l2, kTolerance) << "after micro-step " << step;
      if (!bf16_momentum) {
        EXPECT_LE(errors.element, kTolerance) << "after micro-step " << step;
      }
      worst = nan_or_larger(worst, errors.relative_l2);
    }
    std::printf("%s: %d steps, largest relative L2 error %.2g\n", name.filename().c_str(),
                num_steps, worst);
  }
}

TEST(GoldenOptim, Cpu) {
  replay_all(*make_cpu_device());
}

TEST(GoldenOptim, Cuda) {
  RT_SKIP_WITHOUT_GPU();
  replay_all(*make_cuda_device(0));
}

}  // namespace
}  // namespace ringtrain
