#include "ringtrain/train/run_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "ringtrain/config/byte_size.h"
#include "ringtrain/config/validate.h"
#include "ringtrain/core/error.h"
#include "ringtrain/train/engine.h"
#include "ringtrain/train/memory_reserve.h"
#include "ringtrain/train/remat_choice.h"

namespace ringtrain {
namespace {

constexpr int kMostRanksPerHost = 8;
constexpr std::int64_t kContextStep = 1024;

// Ranks are equal but for what their sequence layout shows them and for shards that hold nothing
// but padding: the first shard never does, and the last sp rank sees most.
std::vector<MeshCoordinates> fullest_candidates(const MeshShape& mesh) {
  std::vector<MeshCoordinates> places{{}};
  if (mesh.sp > 1) places.push_back({.sp = mesh.sp - 1});
  return places;
}

MemoryPlan plan_of_fullest_rank(const TrainConfig& config, const PlannedMachine& machine,
                                const MeshShape& mesh) {
  const EngineJobs jobs{.train = true, .evaluate = config.eval_steps > 0};
  MemoryPlan fullest;
  for (const MeshCoordinates& place : fullest_candidates(mesh)) {
    const MemoryPlan plan =
        plan_memory({mesh, place, machine.device, dtype_from_name(config.dtype)},
                    [&](Context& meta) { Engine(meta, config, jobs).rehearse(); });
    if (plan.device.bytes >= fullest.device.bytes) fullest = plan;
  }
  return fullest;
}

std::size_t num_groups(const MeshShape& mesh) {
  const std::vector<int> sizes{mesh.size(),      mesh.dp,      mesh.tp,
                               mesh.ring_size(), mesh.ulysses, mesh.num_param_shards()};
  return static_cast<std::size_t>(
      std::count_if(sizes.begin(), sizes.end(), [](int size) { return size > 1; }));
}

std::string mesh_text(const MeshShape& mesh) {
  return fmt::format("{},{},{},{}", mesh.dp, mesh.fsdp, mesh.tp, mesh.sp);
}

/// A change of the settings, and what --help calls it.
struct Change {
  std::string text;
  TrainConfig config;
  PlannedMachine machine;
};

std::vector<Change> changes_of(const TrainConfig& config, const PlannedMachine& machine) {
  std::vector<Change> changes;
  const auto change = [&](const std::string& text, const std::function<void(TrainConfig&)>& apply) {
    changes.push_back({text, config, machine});
    apply(changes.back().config);
  };
  for (const std::string& policy : remat_block_names()) {
    if (policy == config.llama.remat_block) continue;
    change("--llama.remat_block=" + policy, [&](TrainConfig& c) { c.llama.remat_block = policy; });
  }
  const std::int64_t chunk = config.llama.scan_mlp_chunk_size;
  if (!config.llama.scan_mlp) {
    change("--llama.scan_mlp=True", [](TrainConfig& c) { c.llama.scan_mlp = true; });
  } else if (chunk > 1) {
    change(fmt::format("--llama.scan_mlp_chunk_size={}", chunk / 2),
           [&](TrainConfig& c) { c.llama.scan_mlp_chunk_size = chunk / 2; });
  }
  if (config.loss_chunk_size > 1) {
    change(fmt::format("--loss_chunk_size={}", config.loss_chunk_size / 2),
           [](TrainConfig& c) { c.loss_chunk_size /= 2; });
  }
  change("--offload_optimizer=True", [](TrainConfig& c) { c.offload_optimizer = true; });
  change("--grad_dtype=bf16", [](TrainConfig& c) { c.grad_dtype = "bf16"; });
  const MeshShape mesh = mesh_shape_of(config, machine.world_size);
  const auto grow = [&](int MeshShape::*axis) {
    MeshShape larger = mesh;
    larger.*axis *= 2;
    Change& grown = changes.emplace_back(
        Change{fmt::format("--mesh_dim={} on {} ranks", mesh_text(larger), larger.size()), config,
               machine});
    grown.config.mesh_dim = mesh_text(larger);
    grown.machine.world_size = larger.size();
  };
  grow(&MeshShape::fsdp);
  grow(&MeshShape::tp);
  grow(&MeshShape::sp);
  return changes;
}

void check_mesh(const TrainConfig& config, const PlannedMachine& machine) {
  const MeshShape shape = mesh_shape_of(config, machine.world_size);
  const MeshSizes mesh{shape.dp, shape.fsdp, shape.tp, shape.sp, shape.ulysses};
  validate_model_on_mesh(config.llama, mesh);
  const JsonDatasetConfig& data = config.train_dataset.json_dataset;
  validate_batch_on_mesh(data.batch_size, data.seq_length, config.sp_layout, mesh, "batch_size",
                         "seq_length");
}

}  // namespace

PlannedMachine planned_machine(const TrainConfig& config) {
  const PlanConfig& plan = config.plan;
  PlannedMachine machine{};
  machine.device = config.device == "cpu" ? DeviceType::kCpu : DeviceType::kCuda;
  machine.world_size = static_cast<int>(plan.world_size);
  machine.ranks_per_host = static_cast<int>(
      plan.ranks_per_host > 0 ? std::min(plan.ranks_per_host, plan.world_size)
                              : std::min<std::int64_t>(plan.world_size, kMostRanksPerHost));
  machine.device_bytes =
      machine.device == DeviceType::kCpu ? 0 : parse_byte_size("device_memory", plan.device_memory);
  machine.host_bytes = parse_byte_size("host_memory", plan.host_memory);
  return machine;
}

RunPlan plan_run(const TrainConfig& config, const PlannedMachine& machine) {
  const MeshShape mesh = mesh_shape_of(config, machine.world_size);
  const bool is_cpu = machine.device == DeviceType::kCpu;
  RunPlan plan{};
  plan.rank = plan_of_fullest_rank(config, machine, mesh);
  plan.process = is_cpu ? kCpuProcess : kCudaProcess;
  if (!is_cpu) {
    const std::size_t groups = num_groups(mesh);
    plan.context = kCudaContext;
    plan.nccl = {kNcclGroup.bytes * groups, kNcclGroup.error * groups};
    plan.device_used =
        plan.rank.device.bytes + plan.context.bytes + plan.nccl.bytes + kDeviceReserve;
  }
  plan.host_used = kHostReserve + static_cast<std::size_t>(machine.ranks_per_host) *
                                      (plan.rank.host.bytes + plan.process.bytes +
                                       (is_cpu ? plan.rank.device.bytes : 0));
  plan.fits_device = plan.device_used <= machine.device_bytes;
  plan.fits_host = plan.host_used <= machine.host_bytes;
  return plan;
}

TrainConfig with_chosen_remat(TrainConfig config, const PlannedMachine& machine) {
  if (config.llama.remat_block != kRematAuto) return config;
  const auto mix = choose_remat(config.llama.num_hidden_layers, [&](const RematMix& tried) {
    config.llama.remat_block = tried.to_string();
    const RunPlan plan = plan_run(config, machine);
    return MemoryFit{plan.fits_device, plan.fits_host};
  });
  config.llama.remat_block = mix ? mix->to_string() : least_remat(machine.device);
  return config;
}

std::vector<Saving> savings(const TrainConfig& config, const PlannedMachine& machine) {
  const MemoryPlan now = plan_run(config, machine).rank;
  const bool is_cpu = machine.device == DeviceType::kCpu;
  const auto freed = [](std::size_t before, std::size_t after) {
    return static_cast<std::int64_t>(before) - static_cast<std::int64_t>(after);
  };
  std::vector<Saving> found;
  for (const Change& change : changes_of(config, machine)) {
    MemoryPlan then;
    try {
      check_mesh(change.config, change.machine);
      then = plan_run(change.config, change.machine).rank;
    } catch (const InvalidArgument&) {
      continue;  // the mesh does not cut this model or its batches
    }
    Saving saving{change.text, freed(now.device.bytes, then.device.bytes),
                  freed(now.host.bytes, then.host.bytes)};
    if (is_cpu) saving.device_bytes += std::exchange(saving.host_bytes, 0);
    if (saving.device_bytes > 0) found.push_back(saving);
  }
  std::stable_sort(found.begin(), found.end(), [](const Saving& a, const Saving& b) {
    return a.device_bytes > b.device_bytes;
  });
  return found;
}

std::int64_t longest_context(const TrainConfig& config, const PlannedMachine& machine) {
  const MeshShape mesh = mesh_shape_of(config, machine.world_size);
  const std::int64_t unit = 2 * std::int64_t{mesh.sp};  // of every layout
  const std::int64_t step = std::lcm(kContextStep, unit);
  const std::int64_t most = std::numeric_limits<std::int32_t>::max() / step;  // positions
  const auto fits = [&](std::int64_t steps) {
    TrainConfig longer = config;
    longer.train_dataset.json_dataset.seq_length = steps * step;
    return plan_run(with_chosen_remat(longer, machine), machine).fits();
  };
  std::int64_t low = 0;   // fits
  std::int64_t high = 1;  // does not, once found
  while (high <= most && fits(high)) {
    low = high;
    high *= 2;
  }
  high = std::min(high, most + 1);
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low * step;
}

}  // namespace ringtrain
