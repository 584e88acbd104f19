// ringtrain bench sp.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "bench_options.h"
#include "ringtrain/bench/sp_bench.h"
#include "ringtrain/comm/job.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;

void report(const SpBench& bench, const TrainConfig& config, const SpTimes& times) {
  const ModelConfig& model = config.llama;
  const JsonDatasetConfig& data = config.train_dataset.json_dataset;
  const char* const transport = model.rotates_keys() ? "rotated" : "gathered";
  if (!config.json) {
    fmt::print(
        "{}\nmesh {}; sp_type {}, sp_layout {}, keys and values {}\n{} tokens, batch {}, {} heads, "
        "{} key/value heads, head_dim {}, {}; median of "
        "{} rounds after {}\n{:<9} {:>10} {:>10} {:>7} {:>9}\n",
        bench.description(), bench.mesh().to_string(), config.sp_type, bench.layout(), transport,
        data.seq_length, data.batch_size, model.num_attention_heads, model.kv_heads(),
        model.head_size(), config.dtype, config.bench.runs, config.bench.warmups, "direction",
        "sp ms", "one kernel", "ratio", "waiting");
  }
  for (const auto& [direction, pass] : {std::pair{"forward", times.forward},
                                        {"backward", times.backward},
                                        {"both", times.both()}}) {
    if (config.json) {
      const Json row{{"mesh", bench.mesh().to_string()},
                     {"sp", bench.mesh().sp},
                     {"sp_type", config.sp_type},
                     {"sp_layout", bench.layout()},
                     {"key_value", transport},
                     {"seq_length", data.seq_length},
                     {"batch", data.batch_size},
                     {"heads", model.num_attention_heads},
                     {"kv_heads", model.kv_heads()},
                     {"head_dim", model.head_size()},
                     {"dtype", config.dtype},
                     {"direction", direction},
                     {"sp_ms", 1e3 * pass.sp_s},
                     {"whole_ms", 1e3 * pass.whole_s},
                     {"ratio", pass.ratio()},
                     {"waiting_share", pass.waiting_share}};
      fmt::print("{}\n", row.dump());
    } else {
      fmt::print("{:<9} {:>10.3f} {:>10.3f} {:>7.3f} {:>8.1f}%\n", direction, 1e3 * pass.sp_s,
                 1e3 * pass.whole_s, pass.ratio(), 100 * pass.waiting_share);
    }
  }
}

}  // namespace

int bench_sp(const Invocation& invocation) {
  return run_command(Command::kBench, invocation,
                     [](World& world, const TrainConfig& config, const ConfigReport&) {
                       SpBench bench(world, config);
                       return run_job(world, [&] {
                         const SpTimes times = bench.run();
                         if (world.rank() == 0) report(bench, config, times);
                         return 0;
                       });
                     });
}

}  // namespace ringtrain
