#include "ringtrain/model/decoder_layer.h"

#include "ringtrain/model/chunks.h"

namespace ringtrain {

// The norm before one chunk of the feed-forward block: [count, ...] views or workspaces.
struct DecoderLayer::FfnChunk {
  Tensor rstd, normed;
};

Tensor DecoderLayer::workspace(Shape shape, DType dtype) const {
  return context_.arena.allocate(shape, dtype, MemoryKind::kWorkspace);
}

void DecoderLayer::compute_normed(const LayerTensors& weights, LayerActivations& at) {
  const LayerShape& s = shape_;
  if (!at.normed_attention) {
    at.normed_attention = workspace({s.rows(), s.hidden});
    at.attention_rstd = workspace({s.rows()}, DType::kFloat32);
  }
  context_.ops.rms_norm(
      {at.input, weights.attention_norm, at.normed_attention, at.attention_rstd, s.rms_norm_eps},
      context_.compute);
}

void DecoderLayer::compute_query_key_value(const LayerTensors& weights, LayerActivations& at,
                                           Tensor product) {
  const LayerShape& s = shape_;
  if (!at.query) {
    at.query = workspace({s.batch, s.tokens, s.heads, s.head_dim});
    at.key_value = workspace({2, s.batch, s.tokens, s.kv_heads, s.head_dim});
  }
  const Arena::Scope scope(context_.arena);
  LayerActivations before = at;
  if (!before.normed_attention) compute_normed(weights, before);
  const Tensor qkv =
      product ? product : workspace({s.rows(), (s.heads + 2 * s.kv_heads) * s.head_dim});
  context_.ops.matmul({before.normed_attention, weights.wqkv, qkv, false, true}, context_.compute);
  context_.ops.rope_split({qkv.reshape({s.batch, s.tokens, s.heads + 2 * s.kv_heads, s.head_dim}),
                           attention_.positions(), inverse_frequency_, at.query, at.key_value},
                          context_.compute);
}

void DecoderLayer::compute_attention(LayerActivations& at, Tensor lowest_visible) {
  const LayerShape& s = shape_;
  if (!at.attention_out) {
    at.attention_out = workspace({s.batch, s.tokens, s.heads, s.head_dim});
    at.lse = workspace({s.batch, s.heads, s.tokens}, DType::kFloat32);
  }
  attention_.forward({at.query, at.key_value, lowest_visible, at.attention_out, at.lse});
}

// out = residual + x . weight^T, summed over tp; it is there when `sum` has finished it.
void DecoderLayer::start_product(TensorParallelSum& sum, const Tensor& x, const Tensor& weight,
                                 const Tensor& residual, const Tensor& out) {
  const Tensor addend = is_whole() ? residual : Tensor();
  context_.ops.matmul({.a = x, .b = weight, .out = out, .transpose_b = true, .addend = addend},
                      context_.compute);
  sum.start(out, is_whole() ? Tensor() : residual);
}

// By the chunks in which the feed-forward block takes it, so that one is summed behind another.
void DecoderLayer::start_middle(const LayerTensors& weights, LayerActivations& at) {
  const LayerShape& s = shape_;
  if (!at.middle) at.middle = workspace({s.rows(), s.hidden});
  const Tensor x = at.attention_out.reshape({s.rows(), s.heads * s.head_dim});
  const auto start_chunk = [&](std::int64_t begin, std::int64_t count) {
    start_product(middle_sum_, x.slice(begin, count), weights.wo, at.input.slice(begin, count),
                  at.middle.slice(begin, count));
  };
  for_each_chunk(context_, s.rows(), is_whole() ? s.rows() : s.mlp_chunk_size, start_chunk);
}

// The rows of what is kept, or workspace.
Tensor DecoderLayer::rows_of(const Tensor& kept, std::int64_t begin, Shape shape,
                             DType dtype) const {
  return kept ? kept.slice(begin, shape[0]) : workspace(shape, dtype);
}

// `kept_is_valid`: what is kept was written by the forward pass and is not computed again.
DecoderLayer::FfnChunk DecoderLayer::norm_ffn_chunk(const LayerTensors& weights,
                                                    const LayerActivations& at, std::int64_t begin,
                                                    std::int64_t count, bool kept_is_valid) {
  middle_sum_.finish();  // of the same rows, where start_middle came before
  const FfnChunk chunk{
      rows_of(at.ffn_rstd, begin, {count}, DType::kFloat32),
      rows_of(at.normed_ffn, begin, {count, shape_.hidden}, context_.compute_dtype)};
  if (!(kept_is_valid && at.normed_ffn)) {
    context_.ops.rms_norm({at.middle.slice(begin, count), weights.ffn_norm, chunk.normed,
                           chunk.rstd, shape_.rms_norm_eps},
                          context_.compute);
  }
  return chunk;
}

void DecoderLayer::forward(const LayerTensors& weights, LayerActivations kept,
                           Tensor lowest_visible, Tensor output) {
  const Arena::Scope scope(context_.arena);
  LayerActivations& at = kept;
  if (at.normed_attention) compute_normed(weights, at);
  compute_query_key_value(weights, at);
  compute_attention(at, lowest_visible);
  start_middle(weights, at);
  const Region region(context_.observer, context_.compute, {"feed-forward"});
  const auto compute_chunk = [&](std::int64_t begin, std::int64_t count) {
    const Arena::Scope chunk_scope(context_.arena);
    const FfnChunk chunk = norm_ffn_chunk(weights, at, begin, count, /*kept_is_valid=*/false);
    const Tensor gate_up = at.gate_up ? at.gate_up.slice(begin, count) : Tensor();
    const Tensor activation =
        rows_of(at.activation, begin, {count, shape_.ffn}, context_.compute_dtype);
    context_.ops.swiglu_matmul({chunk.normed, weights.w13, gate_up, activation}, context_.compute);
    start_product(sum_, activation, weights.w2, at.middle.slice(begin, count),
                  output.slice(begin, count));
    if (begin > 0) sum_.finish();  // of the chunk before, behind the products of this one
  };
  for_each_chunk(context_, shape_.rows(), shape_.mlp_chunk_size, compute_chunk);
  sum_.finish();
}

// What was not kept is computed again where it is needed and no sooner, so that the feed-forward
// block and attention do not want their memory at the same time.
void DecoderLayer::backward(const LayerTensors& weights, const LayerGradients& gradients,
                            LayerActivations kept, Tensor lowest_visible, Tensor dx) {
  const Arena::Scope scope(context_.arena);
  LayerActivations& at = kept;
  if (!at.middle && !at.attention_out) {
    if (!at.query) compute_query_key_value(weights, at);
    compute_attention(at, lowest_visible);
  }
  {
    const Arena::Scope middle_scope(context_.arena);
    LayerActivations with_middle = at;
    if (!with_middle.middle) start_middle(weights, with_middle);
    backward_ffn(weights, gradients, with_middle, dx);
  }
  backward_attention(weights, gradients, at, lowest_visible, dx);
}

void DecoderLayer::backward_ffn(const LayerTensors& weights, const LayerGradients& gradients,
                                const LayerActivations& at, Tensor dx) {
  const Region region(context_.observer, context_.compute, {"feed-forward backward"});
  const auto compute_chunk = [&](std::int64_t begin, std::int64_t count) {
    const Arena::Scope scope(context_.arena);
    const FfnChunk chunk = norm_ffn_chunk(weights, at, begin, count, /*kept_is_valid=*/true);
    const DType type = context_.compute_dtype;
    // Nobody reads gate and up after this: their gradients take their place.
    const Tensor gate_up = rows_of(at.gate_up, begin, {count, 2 * shape_.ffn}, type);
    if (!at.gate_up) {
      context_.ops.swiglu_matmul({chunk.normed, weights.w13, gate_up, {}}, context_.compute);
    }
    const Tensor activation = rows_of(at.activation, begin, {count, shape_.ffn}, type);
    const Tensor dout = dx.slice(begin, count);
    context_.ops.swiglu_matmul_backward(
        {dout, weights.w2, gate_up, gate_up, at.activation ? Tensor() : activation},
        context_.compute);
    const Tensor dnormed = workspace({count, shape_.hidden});
    context_.ops.matmul({gate_up, weights.w13, dnormed}, context_.compute);
    sum_.start(dnormed);  // behind the gradients of weights
    const bool adds = begin > 0 || !gradients.are_empty;
    context_.ops.matmul({dout, activation, gradients.w2, true, false, adds}, context_.compute);
    context_.ops.matmul({gate_up, chunk.normed, gradients.w13, true, false, adds},
                        context_.compute);
    sum_.finish();
    context_.ops.rms_norm_backward({dnormed, at.middle.slice(begin, count), weights.ffn_norm,
                                    chunk.rstd, dout, gradients.ffn_norm},
                                   context_.compute);
  };
  for_each_chunk(context_, shape_.rows(), shape_.mlp_chunk_size, compute_chunk);
}

void DecoderLayer::backward_attention(const LayerTensors& weights, const LayerGradients& gradients,
                                      LayerActivations at, Tensor lowest_visible, Tensor dx) {
  const LayerShape& s = shape_;
  const std::int64_t width = s.heads * s.head_dim;
  const std::int64_t packed = (s.heads + 2 * s.kv_heads) * s.head_dim;
  // Gradients of query, key and value, outside of what they are made of. Until attention writes
  // them, the projection that is computed again lies in their memory.
  const DType key_value_type = attention_.dkey_value_type(s.heads, s.kv_heads);
  const std::int64_t key_value_words =
      s.rows() * (packed - width) * static_cast<std::int64_t>(size_of(key_value_type)) / 4;
  const Tensor words = workspace({s.rows() * width + key_value_words}, DType::kFloat32);
  const Tensor dquery = words.view(0, {s.batch, s.tokens, s.heads, s.head_dim});
  const Tensor dkey_value(words.view(s.rows() * width, {key_value_words}).raw(), key_value_type,
                          {2, s.batch, s.tokens, s.kv_heads, s.head_dim});
  {
    const Arena::Scope scope(context_.arena);
    const Tensor product(words.raw(), context_.compute_dtype, {s.rows(), packed});
    if (!at.query) compute_query_key_value(weights, at, product);
    if (!at.attention_out) compute_attention(at, lowest_visible);
    const Tensor dout = workspace(at.attention_out.shape());
    context_.ops.matmul({dx, weights.wo, dout.reshape({s.rows(), width})}, context_.compute);
    context_.ops.matmul({dx, at.attention_out.reshape({s.rows(), width}), gradients.wo, true, false,
                         !gradients.are_empty},
                        context_.compute);
    attention_.backward({at.query, at.key_value, lowest_visible, at.attention_out, at.lse, dout,
                         dquery, dkey_value});
  }
  const Tensor dqkv = workspace({s.rows(), packed});
  context_.ops.rope_merge({dquery, dkey_value, attention_.positions(), inverse_frequency_,
                           dqkv.reshape({s.batch, s.tokens, s.heads + 2 * s.kv_heads, s.head_dim})},
                          context_.compute);
  const Tensor dnormed = workspace({s.rows(), s.hidden});
  context_.ops.matmul({dqkv, weights.wqkv, dnormed}, context_.compute);
  sum_.start(dnormed);  // behind the gradient of wqkv
  if (!at.normed_attention) compute_normed(weights, at);
  context_.ops.matmul(
      {dqkv, at.normed_attention, gradients.wqkv, true, false, !gradients.are_empty},
      context_.compute);
  sum_.finish();
  context_.ops.rms_norm_backward(
      {dnormed, at.input, weights.attention_norm, at.attention_rstd, dx, gradients.attention_norm},
      context_.compute);
}

}  // namespace ringtrain
