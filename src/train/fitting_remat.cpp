#include "ringtrain/train/fitting_remat.h"

#include <fmt/format.h>

#include "ringtrain/train/remat_choice.h"

namespace ringtrain {

std::string fit_remat(Runtime& runtime, const EngineJobs& jobs, TrainConfig& config) {
  std::string& policy = config.llama.remat_block;
  if (policy != kRematAuto) return "";
  const auto mix = choose_remat(config.llama.num_hidden_layers, [&](const RematMix& tried) {
    policy = tried.to_string();
    return runtime.fits(
        runtime.plan([&](Context& meta) { Engine(meta, config, jobs).rehearse(); }));
  });
  policy = mix ? mix->to_string() : least_remat(runtime.device().type());
  return fmt::format("remat_block=auto: {}{}", policy,
                     mix ? "" : ", which keeps least, as nothing fits the free memory");
}

}  // namespace ringtrain
