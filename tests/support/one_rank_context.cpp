#include "support/one_rank_context.h"

namespace ringtrain {

OneRankContext::OneRankContext(DType compute_dtype, std::size_t arena_bytes)
    : device_(make_cpu_device()),
      ops_(make_cpu_backend()),
      compute_(device_->make_stream(StreamPriority::kNormal)),
      ring_(device_->make_stream(StreamPriority::kHigh)),
      params_(device_->make_stream(StreamPriority::kHigh)),
      memory_(std::make_unique<DeviceMemory>(*device_, arena_bytes)) {
  for (auto* group : {&mesh_.ring, &mesh_.tp, &mesh_.param, &mesh_.dp}) {
    *group = make_one_rank_communicator(*device_);
  }
  arena_.emplace(memory_->data(), memory_->bytes());
  ops_->bind_workspace(arena_->allocate({static_cast<std::int64_t>(ops_->workspace_bytes()) / 4},
                                        DType::kInt32, MemoryKind::kWorkspace));
  context_.emplace(Context{*device_, *ops_, *arena_, mesh_, *compute_, *ring_, *params_,
                           compute_dtype});
}

}  // namespace ringtrain
