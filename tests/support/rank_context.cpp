#include "support/rank_context.h"

#include <cstddef>
#include <utility>

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{64} << 20;

}  // namespace

Mesh one_rank_mesh(Device& device) {
  return make_mesh(*make_one_rank_communicator(device), device, MeshShape{}, "tp,sp,fsdp,dp");
}

RankContext::RankContext(Device& device, Mesh mesh)
    : mesh_(std::move(mesh)),
      compute_(device.make_stream(StreamPriority::kNormal)),
      ring_(device.make_stream(StreamPriority::kHigh)),
      params_(device.make_stream(StreamPriority::kNormal)),
      beside_(device.make_stream(StreamPriority::kNormal)),
      to_host_(device.make_stream(StreamPriority::kNormal)),
      to_device_(device.make_stream(StreamPriority::kNormal)),
      ops_(device.type() == DeviceType::kCuda ? make_cuda_backend(device) : make_cpu_backend()),
      memory_(device, kArenaBytes + ops_->workspace_bytes()),
      arena_(memory_.data(), memory_.bytes()),
      host_memory_(device, kArenaBytes),
      host_(host_memory_.data(), host_memory_.bytes()),
      context_{device,   *ops_,    arena_,          mesh_, *compute_, *ring_,
               *params_, *beside_, DType::kFloat32, host_, *to_host_, *to_device_} {
  const auto words = static_cast<std::int64_t>((ops_->workspace_bytes() + 3) / 4);
  ops_->bind_workspace(arena_.allocate({words}, DType::kInt32, MemoryKind::kWorkspace));
}

}  // namespace ringtrain
