#pragma once

#include <cstdint>

#include "ringtrain/model/llama_parameters.h"
#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/sequence_attention.h"
#include "ringtrain/parallel/tensor_parallel_sum.h"

namespace ringtrain {

/// Sizes of a layer on this rank (heads and feed-forward already divided by tp).
struct LayerShape {
  std::int64_t batch;           ///< B
  std::int64_t tokens;          ///< T, of this rank
  std::int64_t hidden;          ///< D
  std::int64_t heads;           ///< N
  std::int64_t kv_heads;        ///< K
  std::int64_t head_dim;        ///< H
  std::int64_t ffn;             ///< F
  std::int64_t mlp_chunk_size;  ///< tokens of the feed-forward block that are computed at a time
  float rms_norm_eps;

  std::int64_t rows() const { return batch * tokens; }
};

/// What the forward pass of one layer leaves for the backward pass; absent tensors were not kept
/// (ActivationStore makes room).
struct LayerActivations {
  Tensor input;             ///< [rows, D] compute
  Tensor attention_rstd;    ///< [rows] fp32
  Tensor normed_attention;  ///< [rows, D] compute
  Tensor query;             ///< [B, T, N, H] compute, rotated
  Tensor key_value;         ///< [2, B, T, K, H] compute, key rotated
  Tensor attention_out;     ///< [B, T, N, H] compute
  Tensor lse;               ///< [B, N, T] fp32
  Tensor middle;            ///< [rows, D] compute
  Tensor ffn_rstd;          ///< [rows] fp32
  Tensor normed_ffn;        ///< [rows, D] compute
  Tensor gate_up;           ///< [rows, 2F] compute
  Tensor activation;        ///< [rows, F] compute
};

/// A pre-norm LLaMA decoder layer, forward and backward written out:
///   middle = input + wo . attention(rope(wqkv . norm(input)))
///   output = middle + w2 . swiglu(w13 . norm(middle)), by chunks of mlp_chunk_size tokens;
///   w13 . norm(middle) is in memory only where it is kept, or while a chunk's backward pass runs
/// Matrices are split over tp as in Megatron-LM (arXiv:1909.08053): one all-reduce after wo and
/// w2 forward, one after wqkv and w13 backward. They run beside other products: forward by the
/// chunks of the feed-forward block, backward beside gradients of weights.
class DecoderLayer {
 public:
  DecoderLayer(Context& context, SequenceAttention& attention, const LayerShape& shape,
               Tensor inverse_frequency)
      : context_(context),
        attention_(attention),
        shape_(shape),
        inverse_frequency_(inverse_frequency),
        middle_sum_(context),
        sum_(context) {}

  /// Reads kept.input, writes `output` [rows, D] compute and what `kept` has room for.
  /// lowest_visible: [B, tokens of the ulysses group] int32 or absent.
  void forward(const LayerTensors& weights, LayerActivations kept, Tensor lowest_visible,
               Tensor output);

  /// `dx` [rows, D] compute: gradient of the output on entry, of the input on return. Adds to
  /// `gradients` (fp32), or overwrites empty ones. Overwrites kept.gate_up.
  void backward(const LayerTensors& weights, const LayerGradients& gradients, LayerActivations kept,
                Tensor lowest_visible, Tensor dx);

 private:
  // Each computes one part of `at`, giving it workspace where the plan kept no room for it.
  void compute_normed(const LayerTensors& weights, LayerActivations& at);
  // `product` [rows, (N + 2K) H] compute: memory for the projection; absent: workspace.
  void compute_query_key_value(const LayerTensors& weights, LayerActivations& at,
                               Tensor product = {});
  void compute_attention(LayerActivations& at, Tensor lowest_visible);
  void start_middle(const LayerTensors& weights, LayerActivations& at);
  void start_product(TensorParallelSum& sum, const Tensor& x, const Tensor& weight,
                     const Tensor& residual, const Tensor& out);
  bool is_whole() const { return context_.mesh.tp->size() == 1; }

  struct FfnChunk;
  FfnChunk norm_ffn_chunk(const LayerTensors& weights, const LayerActivations& at,
                          std::int64_t begin, std::int64_t count, bool kept_is_valid);
  void backward_ffn(const LayerTensors& weights, const LayerGradients& gradients,
                    const LayerActivations& at, Tensor dx);
  void backward_attention(const LayerTensors& weights, const LayerGradients& gradients,
                          LayerActivations at, Tensor lowest_visible, Tensor dx);
  Tensor rows_of(const Tensor& kept, std::int64_t begin, Shape shape, DType dtype) const;
  Tensor workspace(Shape shape, DType dtype) const;
  Tensor workspace(Shape shape) const { return workspace(shape, context_.compute_dtype); }

  Context& context_;
  SequenceAttention& attention_;
  LayerShape shape_;
  Tensor inverse_frequency_;      // [H / 2] fp32
  TensorParallelSum middle_sum_;  // of chunks of `middle` that norm_ffn_chunk has not asked for
  TensorParallelSum sum_;         // all others
};

}  // namespace ringtrain
