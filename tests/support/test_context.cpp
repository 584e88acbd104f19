#include "support/test_context.h"

#include <utility>

namespace ringtrain {
namespace {

MeshShape shape_of(const std::string& mesh_dim, int world_size, int ulysses) {
  MeshShape shape = parse_mesh(mesh_dim, world_size);
  shape.ulysses = ulysses;
  return shape;
}

}  // namespace

TestContext::TestContext(DeviceType device, DType compute_dtype, std::size_t arena_bytes)
    : device_(device == DeviceType::kCuda ? make_cuda_device(0) : make_cpu_device()),
      ops_(device == DeviceType::kCuda ? make_cuda_backend(*device_) : make_cpu_backend()) {
  finish_alone(compute_dtype, arena_bytes);
}

TestContext::TestContext(std::unique_ptr<Device> device, DType compute_dtype,
                         std::size_t arena_bytes)
    : device_(std::move(device)), ops_(make_cpu_backend()) {
  finish_alone(compute_dtype, arena_bytes);
}

TestContext::TestContext(World& world, const std::string& mesh_dim, DeviceType device,
                         DType compute_dtype, std::size_t arena_bytes, int ulysses,
                         Transport transport)
    : device_(choose_device(world, device == DeviceType::kCuda ? "cuda" : "cpu",
                            /*oversubscribe_gpu=*/true)),
      all_ranks_(world.make_communicator(*device_)),
      ops_(device == DeviceType::kCuda ? make_cuda_backend(*device_) : make_cpu_backend()),
      mesh_(make_mesh(*all_ranks_, *device_, shape_of(mesh_dim, world.size(), ulysses),
                      "tp,sp,fsdp,dp", {{transport}, {transport}})) {
  finish(compute_dtype, arena_bytes);
}

void TestContext::finish_alone(DType compute_dtype, std::size_t arena_bytes) {
  for (auto* group : {&mesh_.ring, &mesh_.ulysses, &mesh_.tp, &mesh_.param, &mesh_.dp}) {
    *group = make_one_rank_communicator(*device_);
  }
  finish(compute_dtype, arena_bytes);
}

void TestContext::finish(DType compute_dtype, std::size_t arena_bytes) {
  compute_ = device_->make_stream(StreamPriority::kNormal);
  ring_ = device_->make_stream(StreamPriority::kHigh);
  params_ = device_->make_stream(StreamPriority::kHigh);
  beside_ = device_->make_stream(StreamPriority::kNormal);
  to_host_ = device_->make_stream(StreamPriority::kNormal);
  to_device_ = device_->make_stream(StreamPriority::kNormal);
  memory_ = std::make_unique<DeviceMemory>(*device_, arena_bytes);
  arena_.emplace(memory_->data(), memory_->bytes());
  ops_->bind_workspace(arena_->allocate({static_cast<std::int64_t>(ops_->workspace_bytes()) / 4},
                                        DType::kInt32, MemoryKind::kWorkspace));
  host_memory_ = std::make_unique<HostMemory>(*device_, arena_bytes / 4);
  host_.emplace(host_memory_->data(), host_memory_->bytes());
  context_.emplace(Context{*device_, *ops_, *arena_, mesh_, *compute_, *ring_, *params_, *beside_,
                           compute_dtype, *host_, *to_host_, *to_device_});
}

}  // namespace ringtrain
