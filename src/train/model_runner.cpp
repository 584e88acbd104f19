#include "ringtrain/train/model_runner.h"

#include <fmt/format.h>

#include <cstring>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

std::int64_t rows_of_rank(std::int64_t batch_size, const MeshShape& mesh) {
  if (batch_size % mesh.num_batch_shards() != 0) {
    throw InvalidArgument(fmt::format(
        "json_dataset.batch_size {} is not divisible by dp x fsdp = {} x {}; mesh_dim is {}",
        batch_size, mesh.dp, mesh.fsdp, mesh.to_string()));
  }
  return batch_size / mesh.num_batch_shards();
}

}  // namespace

ModelRunner::ModelRunner(Context& context, const TrainConfig& config, ShardedParameters& parameters,
                         std::int64_t batch_size, std::int64_t seq_length)
    : context_(context),
      batch_rows_(rows_of_rank(batch_size, context.mesh.shape)),
      layouts_(sequence_layouts(config.sp_layout, config.packing == "documents", seq_length,
                                context.mesh.shape.sp, context.mesh.shape.ulysses)),
      model_(context, config.llama, parameters, layouts_,
             {.batch = batch_rows_,
              .loss_chunk_size = config.loss_chunk_size,
              .ring_gradient_dtype = dtype_from_name(config.ring_gradient_dtype)}) {
  const std::int64_t rows = batch_rows_ * layouts_.front().local_length();
  const auto allocate = [&](Shape shape, DType dtype) {
    return context.arena.allocate(shape, dtype, MemoryKind::kBatch);
  };
  batch_.tokens = allocate({rows}, DType::kInt32);
  batch_.targets = allocate({rows}, DType::kInt32);
  batch_.weights = allocate({rows}, DType::kFloat32);
  if (config.packing == "documents") {
    batch_.lowest_visible = allocate({batch_rows_, layouts_.front().group_length()}, DType::kInt32);
  }
  std::size_t bytes = batch_.tokens.bytes() + batch_.targets.bytes() + batch_.weights.bytes();
  if (batch_.lowest_visible) bytes += batch_.lowest_visible.bytes();
  for (Staging& staging : staging_) {
    staging.memory = context.host.allocate({static_cast<std::int64_t>(bytes / 4)}, DType::kInt32,
                                           MemoryKind::kBatch);
    staging.copied = context.device.make_event();
  }
}

void ModelRunner::load(const LocalBatch& batch) {
  if (batch.rows != batch_rows_ || batch.tokens != layouts_.front().local_length()) {
    throw InvalidArgument(fmt::format("a batch of [{}, {}] tokens for a model of [{}, {}]",
                                      batch.rows, batch.tokens, batch_rows_,
                                      layouts_.front().local_length()));
  }
  Staging& staging = staging_[next_staging_];
  next_staging_ = (next_staging_ + 1) % staging_.size();
  staging.copied->synchronise();
  auto* host = static_cast<std::byte*>(staging.memory.raw());
  const auto copy = [&](Tensor to, const auto& values) {
    std::memcpy(host, values.data(), to.bytes());
    context_.device.copy_to_device(to.raw(), host, to.bytes(), context_.compute);
    host += to.bytes();
  };
  copy(batch_.tokens, batch.inputs);
  copy(batch_.targets, batch.targets);
  copy(batch_.weights, batch.weights);
  if (batch_.lowest_visible) copy(batch_.lowest_visible, batch.document_starts);
  context_.compute.record(*staging.copied);
  model_.use_layout(batch.layout);
}

}  // namespace ringtrain
