#include "ringtrain/train/runtime.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "ringtrain/config/byte_size.h"
#include "ringtrain/core/error.h"
#include "ringtrain/core/host_memory.h"
#include "ringtrain/train/memory_reserve.h"

namespace ringtrain {
namespace {

// The first exchange of heads and the last have the GPU to themselves and want its whole link.
// Beside attention as many blocks run as it leaves SMs, and the others behind them.
constexpr int kExchangeSms = 32;

Transport transport_of(const TrainConfig& config, const Device& device) {
  if (config.ring_transport == "nccl") return Transport::kNccl;
  if (config.ring_transport == "auto") return Transport::kAuto;
  if (device.type() == DeviceType::kCpu) {
    throw InvalidArgument("--ring_transport=copy needs GPUs; the ranks run on CPUs");
  }
  return Transport::kCopyEngines;
}

MessageRoutes message_routes(const TrainConfig& config, const Device& device) {
  const Transport transport = transport_of(config, device);
  const int free = static_cast<int>(config.ring_sms);
  const int for_exchanges = free == 0 ? 0 : std::max(free, kExchangeSms);
  // Where keys are gathered the ring group has no messages, but collectives.
  const MessageRoute hops =
      config.llama.rotates_keys() ? MessageRoute{transport, free, free} : MessageRoute{};
  return {.ring = hops, .ulysses = {transport, for_exchanges, free}};
}

}  // namespace

Runtime::Runtime(World& world, const TrainConfig& config)
    : world_(world),
      device_(choose_device(world, config.device, config.oversubscribe_gpu)),
      all_ranks_(world.make_communicator(*device_)),
      compute_(device_->make_stream(StreamPriority::kNormal)),
      ring_(device_->make_stream(StreamPriority::kHigh)),
      params_(device_->make_stream(StreamPriority::kHigh)),
      beside_(device_->make_stream(StreamPriority::kNormal)),
      to_host_(device_->make_stream(StreamPriority::kNormal)),
      to_device_(device_->make_stream(StreamPriority::kNormal)),
      marks_(*device_, {compute_.get(), ring_.get(), params_.get(), beside_.get()}),
      trace_(*device_, {compute_.get(), ring_.get(), params_.get(), beside_.get()}),
      mesh_(observed(make_mesh(*all_ranks_, *device_, mesh_shape_of(config, world.size()),
                               config.mesh_order, message_routes(config, *device_)),
                     observers_)),
      ops_(device_->type() == DeviceType::kCuda ? make_cuda_backend(*device_, config.deterministic)
                                                : make_cpu_backend()),
      compute_dtype_(dtype_from_name(config.dtype)) {
  observers_.add(trace_);
  if (world.size() > 1) observers_.add(marks_);  // a single rank is not watched
}

MemoryPlan Runtime::plan(const Rehearsal& rehearsal) const {
  return plan_memory({mesh_.shape, mesh_.coordinates, device_->type(), compute_dtype_}, rehearsal);
}

// GPUs are shared under --oversubscribe_gpu, and hosts by their ranks. The CPU's device memory is
// its host's.
Runtime::Demand Runtime::demand(const MemoryPlan& plan) {
  const bool is_host = device_->type() == DeviceType::kCpu;
  const std::array<std::string, 4> own{world_.host_name(), device_->uuid(),
                                       std::to_string(plan.device.bytes),
                                       std::to_string(plan.host.bytes)};
  std::array<std::vector<std::string>, 4> all;
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = world_.all_gather(own[i]);
  const auto& [hosts, devices, device_bytes, host_bytes] = all;
  Demand demand;
  for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
    const std::size_t on_device = std::stoull(device_bytes[rank]);
    const std::size_t on_host = std::stoull(host_bytes[rank]);
    demand.fullest_rank = std::max(demand.fullest_rank, on_device);
    demand.fullest_rank_host = std::max(demand.fullest_rank_host, on_host);
    if (hosts[rank] != world_.host_name()) continue;
    demand.host += on_host + (is_host ? on_device : 0);
    if (devices[rank] == device_->uuid()) demand.device += on_device;
  }
  return demand;
}

MemoryFit Runtime::fits(const MemoryPlan& plan) {
  const Demand wanted = demand(plan);
  const bool is_host = device_->type() == DeviceType::kCpu;
  const std::size_t reserve = is_host ? 0 : kDeviceReserve;
  const bool on_device = is_host || wanted.device + reserve <= device_->memory().free_bytes;
  const bool on_host = wanted.host + kHostReserve <= host_memory().free_bytes;
  return {.device = !world_.any(!on_device), .host = !world_.any(!on_host)};
}

void Runtime::allocate(const Rehearsal& rehearsal) {
  const MemoryPlan wanted = plan(rehearsal);
  memory_table_ = format_table(wanted);
  const Demand sum = demand(wanted);
  fullest_rank_bytes_ = sum.fullest_rank;
  fullest_rank_host_bytes_ = sum.fullest_rank_host;
  const std::size_t free_bytes = device_->memory().free_bytes;
  const std::size_t host_free_bytes = host_memory().free_bytes;
  if (world_.any(device_->type() != DeviceType::kCpu && sum.device > free_bytes)) {
    throw DeviceError(fmt::format(
        "the run needs {} of the memory of {} for its ranks, {} are free; shorten seq_length "
        "or batch_size, set remat_block=auto or nothing_saveable and scan_mlp=true, or use more "
        "fsdp, tp or sp; `ringtrain plan` tells what each would free\n{}",
        format_gib(sum.device), device_->name(), format_gib(free_bytes), memory_table_));
  }
  if (world_.any(sum.host > host_free_bytes)) {
    throw DeviceError(fmt::format(
        "the run needs {} of host memory on {} for the ranks there, {} are free within the "
        "limit of this process's control group; keep less there (remat_block, offload_optimizer), "
        "shorten seq_length or batch_size, or spread the ranks over more hosts\n{}",
        format_gib(sum.host), world_.host_name(), format_gib(host_free_bytes), memory_table_));
  }
  memory_ = std::make_unique<DeviceMemory>(*device_, wanted.device.bytes);
  host_memory_ = std::make_unique<HostMemory>(*device_, wanted.host.bytes);
  arena_.emplace(memory_->data(), memory_->bytes());
  host_.emplace(host_memory_->data(), host_memory_->bytes());
  bind_workspace(*ops_, *arena_);
  context_ = std::make_unique<Context>(Context{*device_, *ops_, *arena_, mesh_, *compute_, *ring_,
                                               *params_, *beside_, compute_dtype_, *host_,
                                               *to_host_, *to_device_, &observers_});
}

WireBytes Runtime::count_wire_bytes(const Rehearsal& rehearsal) {
  WireBytes sent;
  plan_memory({mesh_.shape, mesh_.coordinates, device_->type(), compute_dtype_}, rehearsal, &sent);
  return sent;
}

void watch_runtime(Watchdog& watchdog, Runtime& runtime) {
  watchdog.watch(runtime.marks());
  const Mesh& mesh = runtime.mesh();
  for (Communicator* group :
       {mesh.ring.get(), mesh.ulysses.get(), mesh.tp.get(), mesh.param.get(), mesh.dp.get()}) {
    watchdog.watch(*group);
  }
}

}  // namespace ringtrain
