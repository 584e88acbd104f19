#include "ringtrain/train/memory_plan.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

namespace ringtrain {
namespace {

constexpr double kMebibyte = 1024.0 * 1024.0;

std::string format_side(const MemoryPlan::Side& side, std::string_view prefix) {
  std::string table;
  const auto line = [&](std::string_view name, std::size_t bytes) {
    table += fmt::format("  {:<18}{:>12.1f} MiB\n", fmt::format("{}{}", prefix, name),
                         static_cast<double>(bytes) / kMebibyte);
  };
  for (int i = 0; i < kNumMemoryKinds; ++i) {
    const std::size_t bytes = side.by_kind[static_cast<std::size_t>(i)];
    if (bytes > 0) line(name_of(static_cast<MemoryKind>(i)), bytes);
  }
  line("arena", side.bytes);
  return table;
}

}  // namespace

MemoryPlan plan_memory(const PlannedRank& rank, const Rehearsal& rehearsal,
                       StepObserver* observer) {
  const std::unique_ptr<Device> device = make_meta_device();
  const std::unique_ptr<Backend> ops =
      make_meta_backend(rank.device == DeviceType::kCuda ? cuda_workspace_bytes()
                                                         : make_cpu_backend()->workspace_bytes());
  const auto stream = [&] { return device->make_stream(StreamPriority::kNormal); };
  const std::unique_ptr<Stream> compute = stream();
  const std::unique_ptr<Stream> ring = stream();
  const std::unique_ptr<Stream> params = stream();
  const std::unique_ptr<Stream> beside = stream();
  const std::unique_ptr<Stream> to_host = stream();
  const std::unique_ptr<Stream> to_device = stream();
  Mesh mesh = make_meta_mesh(rank.mesh, rank.coordinates);
  if (observer != nullptr) mesh = observed(std::move(mesh), *observer);
  Arena arena = Arena::measuring();
  Arena host = Arena::measuring();
  bind_workspace(*ops, arena);
  Context context{
      *device, *ops,     arena,      mesh,    *compute, *ring, *params, *beside, rank.compute_dtype,
      host,    *to_host, *to_device, observer};
  rehearsal(context);
  return {.device = {arena.peak(), arena.peak_by_kind()},
          .host = {host.peak(), host.peak_by_kind()}};
}

void bind_workspace(Backend& ops, Arena& arena) {
  ops.bind_workspace(arena.allocate({static_cast<std::int64_t>(ops.workspace_bytes()) / 4},
                                    DType::kInt32, MemoryKind::kWorkspace));
}

std::string format_table(const MemoryPlan& plan) {
  return format_side(plan.device, "") + format_side(plan.host, "host ");
}

}  // namespace ringtrain
