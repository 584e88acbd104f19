#include "ringtrain/model/llama.h"

#include <algorithm>
#include <utility>

#include "ringtrain/model/rope.h"

namespace ringtrain {
namespace {

Tensor upload(Context& context, const std::vector<float>& values) {
  const Tensor tensor = context.arena.allocate({static_cast<std::int64_t>(values.size())},
                                               DType::kFloat32, MemoryKind::kParameters);
  context.device.copy_to_device(tensor.raw(), values.data(), tensor.bytes(), context.compute);
  context.compute.synchronise();
  return tensor;
}

// Where the feed-forward block need not be cut, sums over tp still want pieces, to run beside each
// other's products: of four, a quarter of one sum per layer has nothing beside it. With 1024 tokens
// a product of 4096 columns still has a tile of 128 x 256 for almost every SM.
std::int64_t mlp_chunk_size(const ModelConfig& config, std::int64_t rows, std::int64_t tp) {
  if (config.scan_mlp) return config.scan_mlp_chunk_size;
  const std::int64_t pieces = tp == 1 ? 1 : std::clamp<std::int64_t>(rows / 1024, 1, 4);
  return (rows + pieces - 1) / pieces;
}

}  // namespace

SequenceAttentionOptions attention_options(const ModelConfig& config, DType ring_gradient_dtype) {
  const AttentionType type = config.resolved_attention_type();
  SequenceAttentionOptions options;
  options.transport = config.rotates_keys() ? KeyValueTransport::kRing : KeyValueTransport::kGather;
  if (type == AttentionType::kBlockwise || type == AttentionType::kRingBlockwise) {
    options.query_chunk_size = config.scan_query_chunk_size;
    options.key_chunk_size = config.scan_key_chunk_size;
  }
  options.gradient_dtype = ring_gradient_dtype;
  return options;
}

LlamaModel::LlamaModel(Context& context, const ModelConfig& config, ShardedParameters& parameters,
                       const std::vector<SequenceLayout>& layouts, const Options& options)
    : context_(context),
      config_(config),
      parameters_(parameters),
      attention_(context, layouts, attention_options(config, options.ring_gradient_dtype)),
      vocabulary_(tp_slice(parameters.table().units()[0].segments[0], context.mesh.tp->rank(),
                           context.mesh.tp->size())),
      head_(context,
            {vocabulary_, options.loss_chunk_size, static_cast<float>(config.rms_norm_eps)}),
      rows_(options.batch * layouts.front().local_length()) {
  const std::int64_t tp = context.mesh.shape.tp;
  const LayerShape shape{options.batch,
                         layouts.front().local_length(),
                         config.hidden_size,
                         config.num_attention_heads / tp,
                         config.kv_heads() / tp,
                         config.head_size(),
                         config.intermediate_size / tp,
                         mlp_chunk_size(config, rows_, tp),
                         static_cast<float>(config.rms_norm_eps)};
  layer_ = std::make_unique<DecoderLayer>(context, attention_, shape,
                                          upload(context, rope_inverse_frequencies(config)));
  activations_ = std::make_unique<ActivationStore>(context, shape, make_remat_plans(config));
}

void LlamaModel::embed(const DeviceBatch& batch, Tensor out) {
  const Region region(context_.observer, context_.compute, {"forward", unit(0).name.c_str()});
  const Tensor table = segment_view(unit(0).segments[0], parameters_.acquire(0));
  parameters_.prefetch(1);
  context_.ops.embedding({batch.tokens, table, out, vocabulary_.first}, context_.compute);
  context_.mesh.tp->all_reduce(out, ReduceOp::kSum, context_.compute);
  parameters_.release(0);
}

void LlamaModel::forward_layer(int layer, const LayerActivations& kept, const DeviceBatch& batch,
                               Tensor output) {
  const int unit_index = layer + 1;
  const Region region(context_.observer, context_.compute,
                      {"forward", unit(unit_index).name.c_str()});
  const LayerTensors weights = layer_tensors(unit(unit_index), parameters_.acquire(unit_index));
  parameters_.prefetch(unit_index + 1);
  layer_->forward(weights, kept, batch.lowest_visible, output);
  parameters_.release(unit_index);
}

LossHead::Args LlamaModel::head_args(const DeviceBatch& batch, Tensor x, Tensor totals) {
  const ParameterUnit& head = unit(head_unit());
  const Tensor flat = parameters_.acquire(head_unit());
  const Tensor matrix = config_.tie_word_embeddings
                            ? segment_view(unit(0).segments[0], parameters_.acquire(0))
                            : segment_view(head.segments[1], flat);
  return {x, segment_view(head.segments[0], flat), matrix, batch.targets, batch.weights, totals,
          {}};
}

void LlamaModel::release_head() {
  parameters_.release(head_unit());
  if (config_.tie_word_embeddings) parameters_.release(0);
}

void LlamaModel::evaluate(const DeviceBatch& batch, Tensor totals, Tensor logits) {
  const Arena::Scope scope(context_.arena);
  const auto allocate = [&] {
    return context_.arena.allocate({rows_, config_.hidden_size}, context_.compute_dtype,
                                   MemoryKind::kWorkspace);
  };
  LayerActivations current;
  LayerActivations next;
  current.input = allocate();
  next.input = allocate();
  embed(batch, current.input);
  for (int layer = 0; layer < num_layers(); ++layer) {
    forward_layer(layer, current, batch, next.input);
    std::swap(current, next);
  }
  LossHead::Args args = head_args(batch, current.input, totals);
  args.logits = logits;
  head_.evaluate(args);
  release_head();
}

void LlamaModel::train_step(const DeviceBatch& batch, Tensor totals) {
  const Arena::Scope scope(context_.arena);
  const Tensor dx = context_.arena.allocate({rows_, config_.hidden_size}, context_.compute_dtype,
                                            MemoryKind::kActivations);
  const Arena::Scope host_scope(context_.host);
  activations_->begin_step();
  const LayerActivations first = activations_->open(0);
  embed(batch, first.input);
  train_from_layer(0, first, batch, dx, totals);
  const Region region(context_.observer, context_.compute, {"backward", unit(0).name.c_str()});
  context_.ops.embedding_backward({batch.tokens, dx, embedding_gradient(), vocabulary_.first},
                                  context_.compute);
  parameters_.end_gradient(0);
  tied_gradient_ = {};
}

// Zeros where nothing has been added yet: tokens reach few rows of the table.
Tensor LlamaModel::embedding_gradient() {
  if (tied_gradient_) return tied_gradient_;
  const auto [flat, is_empty] = parameters_.begin_gradient(0);
  const Tensor table = segment_view(unit(0).segments[0], flat);
  if (is_empty) context_.ops.fill(table, 0, context_.compute);
  return table;
}

// Forward of `layer` and, by recursion, everything above it, then backward of `layer`: the arena's
// scopes nest as the layers do. `dx` is the gradient of the residual stream throughout.
void LlamaModel::train_from_layer(int layer, const LayerActivations& kept, const DeviceBatch& batch,
                                  Tensor dx, Tensor totals) {
  const int unit_index = layer + 1;
  {
    const Arena::Scope scope(context_.arena);
    if (layer + 1 < num_layers()) {
      const LayerActivations next = activations_->open(layer + 1);
      activations_->begin_forward(layer);
      forward_layer(layer, kept, batch, next.input);
      activations_->end_forward(layer);
      train_from_layer(layer + 1, next, batch, dx, totals);
    } else {
      const Tensor output = context_.arena.allocate(
          {rows_, config_.hidden_size}, context_.compute_dtype, MemoryKind::kActivations);
      activations_->begin_forward(layer);
      forward_layer(layer, kept, batch, output);
      activations_->end_forward(layer);
      const LossHead::Args args = head_args(batch, output, totals);
      parameters_.prefetch(unit_index);
      const ParameterUnit& head = unit(head_unit());
      const auto [flat, is_empty] = parameters_.begin_gradient(head_unit());
      LossHead::Gradients gradients{dx, segment_view(head.segments[0], flat), {}, is_empty};
      if (config_.tie_word_embeddings) {
        const auto table = parameters_.begin_gradient(0);
        tied_gradient_ = segment_view(unit(0).segments[0], table.flat);
        gradients.dmatrix = tied_gradient_;
        gradients.dmatrix_is_empty = table.is_empty;
      } else {
        gradients.dmatrix = segment_view(head.segments[1], flat);
      }
      head_.train(args, gradients);
      parameters_.end_gradient(head_unit());
      release_head();
    }
  }
  const Region region(context_.observer, context_.compute,
                      {"backward", unit(unit_index).name.c_str()});
  const LayerTensors weights = layer_tensors(unit(unit_index), parameters_.acquire(unit_index));
  parameters_.prefetch(unit_index - 1);
  const auto [flat, is_empty] = parameters_.begin_gradient(unit_index);
  const LayerGradients gradients{layer_tensors(unit(unit_index), flat), is_empty};
  activations_->begin_backward(layer);
  layer_->backward(weights, gradients, kept, batch.lowest_visible, dx);
  activations_->end_backward(layer);
  parameters_.end_gradient(unit_index);
  parameters_.release(unit_index);
}

}  // namespace ringtrain
