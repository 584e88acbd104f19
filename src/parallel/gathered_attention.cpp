#include "gathered_attention.h"

namespace ringtrain {

Tensor GatheredAttention::gather(Tensor key_value) {
  Communicator& ring = *context_.mesh.ring;
  Shape shape{ring.size()};
  for (int i = 0; i < key_value.shape().rank(); ++i) shape.append(key_value.size(i));
  const Tensor all = context_.arena.allocate(shape, key_value.dtype(), MemoryKind::kRing);
  ring.all_gather(key_value, all, context_.compute);
  return all;
}

void GatheredAttention::forward(const SequenceAttention::Forward& args, int free_processors) {
  AttentionSteps::Fold fold = steps_.begin(args.query);
  const Tensor all = gather(args.key_value);
  for (int r = 0; r < context_.mesh.ring->size(); ++r) {
    steps_.forward(args, fold, all[r], r, free_processors, {{&context_.compute, 0, 0}});
  }
}

void GatheredAttention::backward(const SequenceAttention::Backward& args, Tensor delta) {
  Communicator& ring = *context_.mesh.ring;
  const Tensor all = gather(args.key_value);
  const Tensor dall = context_.arena.allocate(all.shape(), DType::kFloat32, MemoryKind::kRing);
  for (int r = 0; r < ring.size(); ++r) {
    steps_.backward(args, delta, all[r], r, dall[r], {whole(args.key_value)}, true,
                    context_.compute);
  }
  ring.reduce_scatter(dall, args.dkey_value, ReduceOp::kSum, context_.compute);
}

}  // namespace ringtrain
