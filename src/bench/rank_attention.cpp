#include "rank_attention.h"

#include "ringtrain/bench/timing.h"

namespace ringtrain {

Mesh one_rank_mesh(Device& device) {
  return make_mesh(*make_one_rank_communicator(device), device, MeshShape{}, "tp,sp,fsdp,dp");
}

RankAttention::RankAttention(Context& context, const AttentionWork& work,
                             const SequenceAttentionOptions& options)
    : context_(context), attention_(context, {work.layout}, options) {
  const auto allocate = [&](Shape shape, DType dtype) {
    return context.arena.allocate(shape, dtype, MemoryKind::kActivations);
  };
  const std::int64_t tokens = work.layout.local_length();
  const Shape queries{work.batch, tokens, work.heads, work.head_dim};
  const Shape keys{2, work.batch, tokens, work.kv_heads, work.head_dim};
  query = allocate(queries, context.compute_dtype);
  key_value = allocate(keys, context.compute_dtype);
  out = allocate(queries, context.compute_dtype);
  lse = allocate({work.batch, work.heads, tokens}, DType::kFloat32);
  dout = allocate(queries, context.compute_dtype);
  dquery = allocate(queries, DType::kFloat32);
  dkey_value = allocate(keys, DType::kFloat32);
}

void RankAttention::draw_inputs() {
  auto key = static_cast<std::uint64_t>(context_.mesh.coordinates.sp) << 8;
  for (const Tensor& input : {query, key_value, dout}) {
    draw_normal(context_.device, context_.ops, input, ++key, context_.compute);
  }
}

}  // namespace ringtrain
