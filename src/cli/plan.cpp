#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "ringtrain/cli/job_arguments.h"
#include "ringtrain/config/byte_size.h"
#include "ringtrain/core/error.h"
#include "ringtrain/train/memory_reserve.h"
#include "ringtrain/train/run_plan.h"
#include "subcommands.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;

struct Answer {
  TrainConfig config;  // remat_block as chosen
  PlannedMachine machine;
  RunPlan plan;
  std::int64_t longest;  // 0 without max_context
};

void line(std::string_view name, std::size_t bytes, std::string_view more = "") {
  fmt::print("  {:<22}{:>10.2f} GiB{:>17}  {}\n", name, static_cast<double>(bytes) / kGibibyte,
             bytes, more);
}

std::string estimate(const Estimate& value) {
  return fmt::format("estimate, +-{:.2f} GiB", static_cast<double>(value.error) / kGibibyte);
}

void print_side(const MemoryPlan::Side& side) {
  for (int i = 0; i < kNumMemoryKinds; ++i) {
    const std::size_t bytes = side.by_kind[static_cast<std::size_t>(i)];
    if (bytes > 0) line(name_of(static_cast<MemoryKind>(i)), bytes);
  }
  line("arena", side.bytes);
}

void print_sum(std::string_view option, std::size_t used, std::size_t limit) {
  line("sum", used);
  line(option, limit,
       used <= limit ? fmt::format("fits, {} left", format_gib(limit - used))
                     : fmt::format("does not fit, {} too much", format_gib(used - limit)));
}

void print_plan(const Answer& answer) {
  const auto& [config, machine, plan, longest] = answer;
  const JsonDatasetConfig& data = config.train_dataset.json_dataset;
  const bool is_cpu = machine.device == DeviceType::kCpu;
  fmt::print("plan for {} rank{}, {} a host, mesh_dim {}, {}: {} x {} tokens, {}, remat_block {}\n",
             machine.world_size, machine.world_size == 1 ? "" : "s", machine.ranks_per_host,
             config.mesh_dim, is_cpu ? "cpu" : "cuda", data.batch_size, data.seq_length,
             config.dtype,
             config.llama.remat_block.empty() ? "everything_saveable" : config.llama.remat_block);
  fmt::print("{} of the fullest rank\n", is_cpu ? "memory" : "device memory");
  print_side(plan.rank.device);
  if (!is_cpu) {
    line("CUDA context", plan.context.bytes, estimate(plan.context));
    line("NCCL", plan.nccl.bytes, estimate(plan.nccl));
    line("reserve", kDeviceReserve);
    print_sum("--device_memory", plan.device_used, machine.device_bytes);
  }
  fmt::print("host memory of a rank{}\n", is_cpu ? ", beside that" : " (pinned)");
  print_side(plan.rank.host);
  line("process", plan.process.bytes, estimate(plan.process));
  fmt::print("host memory of {} rank{}\n", machine.ranks_per_host,
             machine.ranks_per_host == 1 ? "" : "s");
  line("reserve", kHostReserve);
  print_sum("--host_memory", plan.host_used, machine.host_bytes);
}

std::size_t activations_of(const MemoryPlan::Side& side) {
  return side.by_kind[static_cast<std::size_t>(MemoryKind::kActivations)];
}

void print_policies(const Answer& answer) {
  fmt::print("activations by remat_block, device and host, and the arena\n");
  for (const std::string& policy : remat_block_names()) {
    TrainConfig config = answer.config;
    config.llama.remat_block = policy;
    const MemoryPlan rank = plan_run(config, answer.machine).rank;
    fmt::print("  {:<22}{:>14}{:>14}{:>14}\n", policy, format_gib(activations_of(rank.device)),
               format_gib(activations_of(rank.host)), format_gib(rank.device.bytes));
  }
}

void print_savings(const Answer& answer) {
  fmt::print("what frees {}memory\n", answer.machine.device == DeviceType::kCpu ? "" : "device ");
  for (const Saving& saving : savings(answer.config, answer.machine)) {
    fmt::print("  {:<44}{:>10.2f} GiB", saving.change,
               static_cast<double>(saving.device_bytes) / kGibibyte);
    if (saving.host_bytes < 0) {
      fmt::print(", for {:.2f} GiB of host memory",
                 static_cast<double>(-saving.host_bytes) / kGibibyte);
    }
    fmt::print("\n");
  }
}

Json json_of(const MemoryPlan::Side& side) {
  Json json;
  for (int i = 0; i < kNumMemoryKinds; ++i) {
    json[std::string(name_of(static_cast<MemoryKind>(i)))] =
        side.by_kind[static_cast<std::size_t>(i)];
  }
  json["arena"] = side.bytes;
  return json;
}

Json json_of(const Answer& answer) {
  const auto& [config, machine, plan, longest] = answer;
  Json json{{"world_size", machine.world_size},
            {"ranks_per_host", machine.ranks_per_host},
            {"remat_block", config.llama.remat_block},
            {"device", json_of(plan.rank.device)},
            {"host", json_of(plan.rank.host)},
            {"cuda_context", plan.context.bytes},
            {"cuda_context_error", plan.context.error},
            {"nccl", plan.nccl.bytes},
            {"nccl_error", plan.nccl.error},
            {"process", plan.process.bytes},
            {"process_error", plan.process.error},
            {"device_reserve", machine.device == DeviceType::kCpu ? 0 : kDeviceReserve},
            {"host_reserve", kHostReserve},
            {"device_used", plan.device_used},
            {"device_memory", machine.device_bytes},
            {"host_used", plan.host_used},
            {"host_memory", machine.host_bytes},
            {"fits", plan.fits()}};
  for (const Saving& saving : savings(config, machine)) {
    json["savings"].push_back(
        {{"change", saving.change}, {"device", saving.device_bytes}, {"host", saving.host_bytes}});
  }
  if (config.plan.max_context) json["max_context"] = longest;
  return json;
}

}  // namespace

int plan_command(const Invocation& invocation) {
  const JobArguments job = parse_job_arguments(Command::kPlan, invocation.arguments);
  if (job.answer) {
    fmt::print("{}", *job.answer);
    return 0;
  }
  const TrainConfig& config = job.resolved.config;
  validate_on_mesh(Command::kPlan, config, static_cast<int>(config.plan.world_size));
  const PlannedMachine machine = planned_machine(config);
  const TrainConfig chosen = with_chosen_remat(config, machine);
  const Answer answer{chosen, machine, plan_run(chosen, machine),
                      config.plan.max_context ? longest_context(config, machine) : 0};
  if (config.json) {
    fmt::print("{}\n", json_of(answer).dump(2));
  } else {
    print_plan(answer);
    print_policies(answer);
    print_savings(answer);
    if (config.plan.max_context) {
      fmt::print("longest seq_length that fits: {}\n", answer.longest);
    }
  }
  return static_cast<int>(answer.plan.fits() ? ExitCode::kOk : ExitCode::kCheckFailed);
}

}  // namespace ringtrain
