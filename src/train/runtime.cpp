#include "ringtrain/train/runtime.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

Mesh make_meta_mesh(const Mesh& mesh) {
  Mesh meta;
  meta.shape = mesh.shape;
  meta.coordinates = mesh.coordinates;
  const auto same = [](const Communicator& group) {
    return make_meta_communicator(group.name(), group.rank(), group.size());
  };
  meta.ring = same(*mesh.ring);
  meta.ulysses = same(*mesh.ulysses);
  meta.tp = same(*mesh.tp);
  meta.param = same(*mesh.param);
  meta.dp = same(*mesh.dp);
  return meta;
}

std::string format_table(const Arena& arena) {
  constexpr double kMebibyte = 1024.0 * 1024.0;
  std::string table;
  for (int i = 0; i < kNumMemoryKinds; ++i) {
    const std::size_t bytes = arena.peak_by_kind()[static_cast<std::size_t>(i)];
    if (bytes == 0) continue;
    table += fmt::format("  {:<12}{:>12.1f} MiB\n", name_of(static_cast<MemoryKind>(i)),
                         static_cast<double>(bytes) / kMebibyte);
  }
  return table + fmt::format("  {:<12}{:>12.1f} MiB\n", "arena",
                             static_cast<double>(arena.peak()) / kMebibyte);
}

Mesh observed(Mesh mesh, StepObserver& observer) {
  for (auto* group : {&mesh.ring, &mesh.ulysses, &mesh.tp, &mesh.param, &mesh.dp}) {
    *group = make_observed_communicator(std::move(*group), observer);
  }
  return mesh;
}

void bind_workspace(Backend& ops, Arena& arena) {
  ops.bind_workspace(arena.allocate({static_cast<std::int64_t>(ops.workspace_bytes()) / 4},
                                    DType::kInt32, MemoryKind::kWorkspace));
}

/// A rank without memory that is where the ranks of `mesh` are, for rehearsals.
struct MetaRank {
  MetaRank(const Mesh& of, std::size_t workspace_bytes, DType compute_dtype, StepObserver& observer)
      : device(make_meta_device()),
        ops(make_meta_backend(workspace_bytes)),
        stream(device->make_stream(StreamPriority::kNormal)),
        mesh(observed(make_meta_mesh(of), observer)),
        context{*device, *ops, arena, mesh, *stream, *stream, *stream, compute_dtype, &observer} {
    bind_workspace(*ops, arena);
  }

  std::unique_ptr<Device> device;
  std::unique_ptr<Backend> ops;
  std::unique_ptr<Stream> stream;
  Mesh mesh;
  Arena arena = Arena::measuring();
  Context context;
};

}  // namespace

Runtime::Runtime(World& world, const TrainConfig& config)
    : world_(world),
      device_(choose_device(world, config.device, config.oversubscribe_gpu)),
      all_ranks_(world.make_communicator(*device_)),
      compute_(device_->make_stream(StreamPriority::kNormal)),
      ring_(device_->make_stream(StreamPriority::kHigh)),
      params_(device_->make_stream(StreamPriority::kHigh)),
      marks_(*device_, {compute_.get(), ring_.get(), params_.get()}),
      trace_(*device_, {compute_.get(), ring_.get(), params_.get()}),
      mesh_(observed(
          make_mesh(*all_ranks_, *device_, mesh_shape_of(config, world.size()), config.mesh_order),
          observers_)),
      ops_(device_->type() == DeviceType::kCuda ? make_cuda_backend(*device_, config.deterministic)
                                                : make_cpu_backend()),
      compute_dtype_(dtype_from_name(config.dtype)) {
  observers_.add(trace_);
  if (world.size() > 1) observers_.add(marks_);  // a single rank is not watched
}

// Bytes that all ranks together want of the device of this rank, which they may share: hosts share
// their memory, and GPUs are shared under --oversubscribe_gpu.
std::size_t Runtime::memory_wanted(std::size_t bytes) {
  const std::string place = world_.host_name() + " " + device_->uuid();
  const std::vector<std::string> places = world_.all_gather(place);
  const std::vector<std::string> sizes = world_.all_gather(std::to_string(bytes));
  std::size_t sum = 0;
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    const std::size_t size = std::stoull(sizes[rank]);
    if (places[rank] == place) sum += size;
    fullest_rank_bytes_ = std::max(fullest_rank_bytes_, size);
  }
  return sum;
}

void Runtime::allocate(const Rehearsal& rehearsal) {
  StepObservers nobody;
  MetaRank meta(mesh_, ops_->workspace_bytes(), compute_dtype_, nobody);
  rehearsal(meta.context);
  const Arena& arena = meta.arena;

  memory_table_ = format_table(arena);
  const std::size_t wanted = memory_wanted(arena.peak());
  const std::size_t free_bytes = device_->memory().free_bytes;
  if (world_.any(wanted > free_bytes)) {
    throw DeviceError(fmt::format(
        "the run needs {} bytes of the memory of {} for its ranks, {} are free; shorten seq_length "
        "or "
        "batch_size, "
        "set remat_block=nothing_saveable and scan_mlp=true, or use more fsdp, tp or sp\n{}",
        wanted, device_->name(), free_bytes, memory_table_));
  }
  memory_ = std::make_unique<DeviceMemory>(*device_, arena.peak());
  arena_.emplace(memory_->data(), memory_->bytes());
  bind_workspace(*ops_, *arena_);
  context_ = std::make_unique<Context>(Context{*device_, *ops_, *arena_, mesh_, *compute_, *ring_,
                                               *params_, compute_dtype_, &observers_});
}

WireBytes Runtime::count_wire_bytes(const Rehearsal& rehearsal) {
  WireBytes sent;
  MetaRank meta(mesh_, ops_->workspace_bytes(), compute_dtype_, sent);
  rehearsal(meta.context);
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
