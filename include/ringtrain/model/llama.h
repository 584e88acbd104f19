#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ringtrain/model/activation_store.h"
#include "ringtrain/model/decoder_layer.h"
#include "ringtrain/model/loss_head.h"
#include "ringtrain/parallel/sharded_parameters.h"

namespace ringtrain {

/// This rank's tokens of a micro-batch, in device memory. rows = batch x tokens, batch outermost.
struct DeviceBatch {
  Tensor tokens;          ///< [rows] int32
  Tensor targets;         ///< [rows] int32
  Tensor weights;         ///< [rows] fp32, of each token's loss
  Tensor lowest_visible;  ///< [batch, tokens of the ulysses group] int32, or absent
};

/// How a model's layers attend over the sp axis.
SequenceAttentionOptions attention_options(const ModelConfig& config, DType ring_gradient_dtype);

/// A LLaMA model on one rank of a mesh: the whole forward and backward pass.
class LlamaModel {
 public:
  struct Options {
    std::int64_t batch;                           ///< sequences of this rank in a micro-batch
    std::int64_t loss_chunk_size;                 ///< tokens whose logits exist at a time
    DType ring_gradient_dtype = DType::kFloat32;  ///< see SequenceAttentionOptions
  };
  /// Allocates constants from the arena. The arguments but `layouts` must outlive this.
  /// Errors: InvalidArgument for a remat policy or rope scaling that is unknown.
  LlamaModel(Context& context, const ModelConfig& config, ShardedParameters& parameters,
             const std::vector<SequenceLayout>& layouts, const Options& options);

  /// From now on batches are cut as layouts[index] says; the first one is in use before.
  void use_layout(std::size_t index) { attention_.use_layout(index); }

  /// Forward and backward: adds the gradients of the sum of weight * loss to the parameters'
  /// gradient shards, and this rank's sums of weight * loss and weight * correct to `totals`
  /// ([2] fp64; equal on all tp ranks).
  void train_step(const DeviceBatch& batch, Tensor totals);

  /// Forward: adds to `totals`; writes `logits` [rows, V] compute where present, V being this tp
  /// rank's (padded) part of the vocabulary.
  void evaluate(const DeviceBatch& batch, Tensor totals, Tensor logits = {});

 private:
  int num_layers() const { return static_cast<int>(config_.num_hidden_layers); }
  int head_unit() const { return num_layers() + 1; }
  const ParameterUnit& unit(int index) const {
    return parameters_.table().units()[static_cast<std::size_t>(index)];
  }
  void embed(const DeviceBatch& batch, Tensor out);
  void forward_layer(int layer, const LayerActivations& kept, const DeviceBatch& batch,
                     Tensor output);
  void train_from_layer(int layer, const LayerActivations& kept, const DeviceBatch& batch,
                        Tensor dx, Tensor totals);
  LossHead::Args head_args(const DeviceBatch& batch, Tensor x, Tensor totals);
  void release_head();
  Tensor embedding_gradient();

  Context& context_;
  const ModelConfig config_;
  ShardedParameters& parameters_;
  SequenceAttention attention_;
  std::unique_ptr<DecoderLayer> layer_;  // layers differ in their weights only
  std::unique_ptr<ActivationStore> activations_;
  TpSlice vocabulary_;  // entries of this tp rank
  LossHead head_;
  std::int64_t rows_;
  /// Of a tied embedding table, open from the head, which fills it, to the embedding.
  Tensor tied_gradient_;
};

}  // namespace ringtrain
