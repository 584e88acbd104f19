#include "ringtrain/train/selftest_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ringtrain/core/error.h"
#include "ringtrain/parallel/banner.h"

namespace ringtrain {
namespace {

struct Effort {
  std::int64_t gpu_elements, cpu_elements;
  int repeats;
  double gpu_flops, cpu_flops;  // of attention, at most: about a second, or ten
};

Effort effort_of(SelftestForm form) {
  if (form == SelftestForm::kFull) return {16 << 20, 1 << 20, 10, 3e15, 1e10};
  return {1 << 20, 1 << 16, 3, 3e14, 1e9};
}

AttentionBlock attention_block(const TrainConfig& config, const DatasetConfig& dataset,
                               const MeshShape& shape) {
  const ModelConfig& model = config.llama;
  const JsonDatasetConfig& data = dataset.json_dataset;
  const std::int64_t split = shape.tp * shape.ulysses;  // a key/value head may be shared
  return {.layout = sequence_layouts(config.sp_layout, config.packing == "documents",
                                     data.seq_length, shape.sp, shape.ulysses)
                        .front(),
          .batch = data.batch_size / shape.num_batch_shards(),
          .heads = model.num_attention_heads / split,
          .kv_heads = std::max<std::int64_t>(model.kv_heads() / split, 1),
          .head_dim = model.head_size(),
          .dtype = dtype_from_name(config.dtype),
          .query_chunk_size = model.scan_query_chunk_size,
          .key_chunk_size = model.scan_key_chunk_size};
}

/// Times so few heads that `repeats` of them cost at most `most_flops`; false if one group of heads
/// is still too much.
bool shorten(AttentionBlock& block, int repeats, double most_flops) {
  const auto tokens = static_cast<double>(block.layout.group_length());
  const double flops = 4 * tokens * tokens * repeats *
                       static_cast<double>(block.batch * block.heads * block.head_dim);
  const auto is_short = [&] {
    return flops <= most_flops * static_cast<double>(block.head_groups);
  };
  while (block.head_groups < block.kv_heads &&
         (!is_short() || block.kv_heads % block.head_groups != 0)) {
    ++block.head_groups;
  }
  return is_short();
}

/// Collective. Leaves the block out where a rank has not twice the memory for it, and a workspace.
Selftest run_selftest(World& world, Runtime& runtime, SelftestOptions options) {
  const Selftest::Rank rank = runtime.selftest_rank();
  const std::size_t wanted =
      options.block ? 2 * Selftest::bytes_of(*options.block) + rank.ops.workspace_bytes() : 0;
  const auto sharing = static_cast<std::size_t>(world.local_size());  // of one device, at most
  if (world.any(wanted * sharing > runtime.device().memory().free_bytes)) options.block.reset();
  Selftest test(rank, options);
  test.combine(world);
  return test;
}

}  // namespace

SelftestOptions selftest_options(const TrainConfig& config, const DatasetConfig& dataset,
                                 const MeshShape& shape, DeviceType type, SelftestForm form) {
  const Effort effort = effort_of(form);
  const bool on_cpu = type == DeviceType::kCpu;
  SelftestOptions options{.num_elements = on_cpu ? effort.cpu_elements : effort.gpu_elements,
                          .repeats = effort.repeats,
                          .rotates = config.llama.rotates_keys()};
  if (!options.rotates || shape.ring_size() == 1) return options;
  AttentionBlock block = attention_block(config, dataset, shape);
  if (shorten(block, effort.repeats, on_cpu ? effort.cpu_flops : effort.gpu_flops)) {
    options.block = block;
  }
  return options;
}

std::string run_short_selftest(World& world, Runtime& runtime, const TrainConfig& config,
                               const DatasetConfig& dataset) {
  if (config.selftest == "off" || world.size() == 1) return "";
  const SelftestOptions options = selftest_options(config, dataset, runtime.mesh().shape,
                                                   runtime.device().type(), SelftestForm::kShort);
  const Selftest test = run_selftest(world, runtime, options);
  std::string table = "self-test\n" + test.to_table();
  if (test.passes()) return table;
  throw Error(ExitCode::kCheckFailed, fmt::format("a collective gives wrong results\n{}", table));
}

SelftestRun::SelftestRun(World& world, TrainConfig config)
    : world_(world), config_(std::move(config)) {}
SelftestRun::~SelftestRun() = default;

SelftestRun::Outcome SelftestRun::run() {
  runtime_.emplace(world_, config_);
  watchdog_.emplace(world_, config_.timeout_s);
  watch_runtime(*watchdog_, *runtime_);
  const MeshShape& shape = runtime_->mesh().shape;
  const auto places = gather_places(world_, runtime_->device());
  const Selftest test =
      run_selftest(world_, *runtime_,
                   selftest_options(config_, config_.train_dataset, shape,
                                    runtime_->device().type(), SelftestForm::kFull));
  std::string table = mesh_banner(places, shape, config_.mesh_order) + test.to_table();
  if (test.findings().empty()) table += "one rank: no group to test\n";
  watchdog_->shutdown();
  return {test.passes(), table + (test.passes() ? "PASS\n" : "FAIL\n")};
}

}  // namespace ringtrain
