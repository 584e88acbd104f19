#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "ringtrain/core/device.h"
#include "ringtrain/core/tensor.h"
#include "ringtrain/ops/attention_segment.h"

/// The operations a training step is made of, one call per fused operation.
///
/// Letters     rows: tokens of this rank, batch outermost (batch x tokens); D hidden size;
///             B micro-batch, T tokens of this rank per sequence, N query heads and K key/value
///             heads of this rank (K divides N), H head_dim; V vocabulary entries of this rank.
/// Types       "compute" is fp32 or bf16, the same for all compute tensors of a call; sums,
///             statistics and gradients of weights are fp32. bf16 results are rounded once, to
///             nearest even, from fp32.
/// Streams     every operation is enqueued on `stream` and returns without waiting. Operations
///             that share a backend's workspace run on one stream: the compute stream.
/// Determinism every operation sums in a fixed order: equal inputs give equal bits (one exception:
///             make_cuda_backend).
/// Errors      InvalidArgument naming the tensor and both shapes; DeviceError on a failed launch.
namespace ringtrain {

/// out = op(a) . op(b), with op the transpose where asked; all row-major, contiguous, 2-D.
struct MatmulArgs {
  Tensor a;    ///< [M, K] or, transposed, [K, M]; compute
  Tensor b;    ///< [K, N] or, transposed, [N, K]; compute
  Tensor out;  ///< [M, N]; compute or fp32
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;  ///< add to `out` instead of overwriting it
  Tensor addend = {};       ///< [M, N] of out's type, apart from it: what Backend::add would then
                            ///< add to the rounded product; or absent. Not with accumulate
};

/// out = weight * cast(x / sqrt(mean(x^2) + eps)): normalised in fp32, cast to compute, then
/// multiplied by the weight in the compute type, as LLaMA does.
struct RmsNormArgs {
  Tensor x;       ///< [rows, D] compute
  Tensor weight;  ///< [D] compute
  Tensor out;     ///< [rows, D] compute
  Tensor rstd;    ///< [rows] fp32, written: 1 / sqrt(mean(x^2) + eps)
  float eps;
};

struct RmsNormBackwardArgs {
  Tensor dout;     ///< [rows, D] compute
  Tensor x;        ///< [rows, D] compute
  Tensor weight;   ///< [D] compute
  Tensor rstd;     ///< [rows] fp32
  Tensor dx;       ///< [rows, D] compute, the gradient is added to it (residual stream)
  Tensor dweight;  ///< [D] fp32, added to
};

/// Splits the packed projection into query and key/value and rotates query and key (RoPE,
/// arXiv:2104.09864, half-split pairs (i, i + H/2) as in Hugging Face checkpoints).
/// The angle is position * inverse_frequency, formed in double: right to 2^31 positions.
struct RopeSplitArgs {
  Tensor qkv;                ///< [B, T, N + 2K, H] compute: query heads, key heads, value heads
  Tensor positions;          ///< [T] int32, position in the whole sequence
  Tensor inverse_frequency;  ///< [H / 2] fp32
  Tensor query;              ///< [B, T, N, H] compute, written
  Tensor key_value;          ///< [2, B, T, K, H] compute, written: key, then value
};

/// The gradient of RopeSplitArgs: rotates back and packs.
struct RopeMergeArgs {
  Tensor dquery;             ///< [B, T, N, H] fp32
  Tensor dkey_value;         ///< [2, B, T, K, H] fp32 or compute
  Tensor positions;          ///< [T] int32
  Tensor inverse_frequency;  ///< [H / 2] fp32
  Tensor dqkv;               ///< [B, T, N + 2K, H] compute, written
};

/// Which keys a query row sees: causal: key position <= query position; documents: key position
/// >= the query row's lowest visible position. Positions ascend along T in every layout, and so do
/// the lowest visible ones.
struct AttentionMask {
  Tensor query_positions;  ///< [Tq] int32
  Tensor key_positions;    ///< [Tk] int32
  Tensor lowest_visible;   ///< [B, Tq] int32, or absent: no document boundaries
  bool causal = true;
  /// The causal part in closed form, in indices of this step: rows outside it see no key. Where
  /// absent, kernels compare positions; it must say the same as these.
  std::optional<AttentionSegment> segment = {};
};

/// One step of attention of `query` against one block of keys and values: Ring Attention
/// (arXiv:2310.01889) algorithm 1 with the running state kept normalised. The state of a row is
/// (partial, lse); `first` starts it afresh, otherwise the step folds into it; `last` writes the
/// finished rows to `out` in the compute type. A row that has seen no key has lse = -inf and
/// zeros; a step that shows a row no key leaves its state as it was.
struct AttentionForwardArgs {
  Tensor query;    ///< [B, Tq, N, H] compute
  Tensor key;      ///< [B, Tk, K, H] compute
  Tensor value;    ///< [B, Tk, K, H] compute
  Tensor partial;  ///< [B, Tq, N, H] fp32; may be absent if first and last
  Tensor lse;      ///< [B, N, Tq] fp32, natural logarithm
  Tensor out;      ///< [B, Tq, N, H] compute; written if last, else may be absent
  AttentionMask mask;
  float softmax_scale;  ///< multiplies query . key; LLaMA uses 1 / sqrt(H)
  bool first = true;
  bool last = true;
  std::int64_t query_chunk_size = 0;  ///< rows scored at a time on the CPU; 0 for all
  std::int64_t key_chunk_size = 0;    ///< keys scored at a time on the CPU; 0 for all
  int free_processors = 0;            ///< of a GPU: left to kernels of other streams
  /// Query heads [first_head, first_head + num_heads) are worked on, both multiples of N / K, the
  /// state and output of others stay; 0 for all. Only where attention_overlaps says so.
  std::int64_t first_head = 0, num_heads = 0;
};

/// delta[b, n, t] = sum over H of out * dout; once per layer, before the backward steps.
struct AttentionDeltaArgs {
  Tensor out;    ///< [B, T, N, H] compute, of the finished forward pass
  Tensor dout;   ///< [B, T, N, H] compute
  Tensor delta;  ///< [B, N, T] fp32, written
};

/// Keys [begin, begin + tokens) of a block that take no part.
struct SkippedKeys {
  std::int64_t begin = 0, tokens = 0;
};

/// Gradients of one step, from the finished lse: p = exp(scale * q.k - lse), ds = p (dp - delta).
struct AttentionBackwardArgs {
  Tensor query;   ///< [B, Tq, N, H] compute
  Tensor key;     ///< [B, Tk, K, H] compute
  Tensor value;   ///< [B, Tk, K, H] compute
  Tensor dout;    ///< [B, Tq, N, H] compute
  Tensor lse;     ///< [B, N, Tq] fp32, over all keys of all steps
  Tensor delta;   ///< [B, N, Tq] fp32
  Tensor dquery;  ///< [B, Tq, N, H] fp32, added to
  Tensor dkey;    ///< [B, Tk, K, H] fp32, added to; or fp32 or compute, written, if
                  ///< overwrite_key_value
  Tensor dvalue;  ///< as dkey
  AttentionMask mask;
  float softmax_scale;
  bool overwrite_key_value = false;  ///< dkey and dvalue need not be zeroed before
  SkippedKeys skipped = {};          ///< of one sequence: their gradients stay as they are
  std::int64_t query_chunk_size = 0;
  std::int64_t key_chunk_size = 0;
};

/// The first half of a SwiGLU feed-forward block (arXiv:2002.05202): gate_up = x . weight^T, gate
/// then up in each row, rounded to compute; out = silu(gate) * up of the rounded ones, in fp32,
/// rounded once. What is absent is not stored, and changes no bit of the other.
struct SwigluMatmulArgs {
  Tensor x;        ///< [rows, D] compute
  Tensor weight;   ///< [2F, D] compute: gate rows, then up rows
  Tensor gate_up;  ///< [rows, 2F] compute, written; may be absent
  Tensor out;      ///< [rows, F] compute, written; may be absent if gate_up is not
};

/// The way back from dout = the gradient of out . weight^T, the second half: dgate_up from the
/// gradient of out, dout . weight, rounded to compute; and out once more.
struct SwigluMatmulBackwardArgs {
  Tensor dout;        ///< [rows, D] compute
  Tensor weight;      ///< [D, F] compute
  Tensor gate_up;     ///< [rows, 2F] compute
  Tensor dgate_up;    ///< [rows, 2F] compute, written; may be gate_up itself
  Tensor activation;  ///< [rows, F] compute, written with the bits of SwigluMatmulArgs::out; or
                      ///< absent
};

/// Rows of this rank's part of the table; a token outside it gives a row of zeros.
struct EmbeddingArgs {
  Tensor tokens;  ///< [rows] int32
  Tensor table;   ///< [V, D] compute: entries first_index .. first_index + V
  Tensor out;     ///< [rows, D] compute
  std::int64_t first_index = 0;
};

struct EmbeddingBackwardArgs {
  Tensor tokens;  ///< [rows] int32
  Tensor dout;    ///< [rows, D] compute
  Tensor dtable;  ///< [V, D] fp32, added to
  std::int64_t first_index = 0;
};

/// Statistics of a block of logits over this rank's vocabulary.
/// stats rows: 0 largest logit, 1 sum of exp(logit - largest), 2 the target's logit or 0 if
/// another rank has it, 3 index of the (first) largest logit in the whole vocabulary, as float.
/// Columns from num_valid on are padding and take no part.
struct CrossEntropyStatsArgs {
  Tensor logits;   ///< [rows, V] compute
  Tensor targets;  ///< [rows] int32, in the whole vocabulary
  Tensor stats;    ///< [4, rows] fp32, written
  std::int64_t first_index = 0;
  std::int64_t num_valid = 0;
};

/// Between the all-reduces over tp: brings stats to the common maximum. Row 1 is scaled, row 3
/// becomes +inf where this rank does not hold the maximum, row 0 becomes the common maximum.
/// Afterwards rows 1 and 2 are summed over tp and row 3 is minimised.
struct CrossEntropyRescaleArgs {
  Tensor stats;    ///< [4, rows] fp32, in place
  Tensor maximum;  ///< [rows] fp32: row 0 after all_reduce(max)
};

/// loss = log sum exp - target logit, in fp32; totals += {sum of weight * loss, sum of weight *
/// (argmax == target)}. With `write_gradient` the logits become weight * (softmax - onehot).
struct CrossEntropyFinishArgs {
  Tensor logits;   ///< [rows, V] compute, overwritten if write_gradient; padding becomes zero
  Tensor targets;  ///< [rows] int32
  Tensor weights;  ///< [rows] fp32; 0 for tokens without loss
  Tensor stats;    ///< [4, rows] fp32, complete
  Tensor totals;   ///< [2] fp64, added to
  std::int64_t first_index = 0;
  std::int64_t num_valid = 0;
  bool write_gradient = true;
};

/// sums[index] += sum of squares of x[begin, end) in double, for every range that is counted.
/// A range is a run of a rank's flat shard that belongs to one tensor of the model, the unit in
/// which norms and statistics are taken; padding belongs to none.
struct SumOfSquaresArgs {
  Tensor x;       ///< [n] fp32
  Tensor ranges;  ///< [R, 4] int64: begin, end, tensor index, counted (0 where another tp rank
                  ///< counts the same, replicated elements)
  Tensor sums;    ///< [number of tensors] fp64, added to
};

/// norm = sqrt(sum of sums) * scale; out = {norm, scale * min(1, max_norm / norm)}.
struct ClipScaleArgs {
  Tensor sums;      ///< [n] fp64, squared norms of the unscaled gradients
  Tensor out;       ///< [2] fp32, written: gradient norm before clipping, factor for the gradients
  double scale;     ///< 1 / number of tokens (or rows) the summed gradients stand for
  double max_norm;  ///< optax clip_by_global_norm: clips where norm > max_norm; infinity for none
};

/// AdamW (arXiv:1711.05101) as optax writes it, on one flat shard:
/// g = grad * factor; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
/// param -= lr * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * param).
/// A bf16 m is, as in optax, m = bf16(bf16(b1) m) + (1 - b1) g; this sum in fp32 enters the update,
/// and rounded to bf16 it is kept.
struct AdamWArgs {
  Tensor param;   ///< [n] fp32 master, in place
  Tensor grad;    ///< [n] fp32
  Tensor factor;  ///< ClipScaleArgs::out: element 1 multiplies the gradient
  Tensor m;       ///< [n] fp32 or bf16, in place
  Tensor v;       ///< [n] fp32, in place
  /// [n] compute, written: the new param, rounded. May be absent.
  Tensor weights = {};
  double learning_rate, b1, b2, eps, weight_decay;
  std::int64_t step;  ///< t, 1 for the first update
};

/// Adafactor without factoring (arXiv:1804.04235 as in optax.adafactor(factored=False)), for t =
/// 0, 1, ...: decay = 1 - (t + 1)^-decay_rate; v = decay v + (1 - decay)(g^2 + 1e-30);
/// u = learning_rate * max(1e-3, rms(tensor)) * g / sqrt(v); m = b1 m + (1 - b1) u;
/// param -= m + weight_decay * param. A bf16 m as in AdamWArgs.
struct AdafactorArgs {
  Tensor param;         ///< [n] fp32 master, in place
  Tensor grad;          ///< [n] fp32
  Tensor factor;        ///< as in AdamWArgs
  Tensor m;             ///< [n] fp32 or bf16
  Tensor v;             ///< [n] fp32
  Tensor ranges;        ///< as in SumOfSquaresArgs; elements outside all ranges rest
  Tensor param_sums;    ///< [number of tensors] fp64: sum of squares of each whole tensor
  Tensor param_counts;  ///< [number of tensors] fp64: elements of each whole tensor
  double learning_rate, b1, decay_rate;
  double weight_decay;  ///< of this step, the rate already in it
  std::int64_t step;    ///< t, 0 for the first update
};

/// out[i] = stddev * normal(key, first_counter + i): Box-Muller over philox4x32 (core/random.h),
/// computed in double so that every device draws the same floats. With w = philox4x32(key, e / 4)
/// and u(x) = (x + 0.5) / 2^32, elements 0 and 1 of a block are sqrt(-2 ln u(w[0])) times the
/// cosine and the sine of 2 pi u(w[1]); elements 2 and 3 come so from w[2] and w[3].
struct RandomNormalArgs {
  Tensor out;  ///< [n] fp32
  std::uint64_t key;
  std::int64_t first_counter;
  double stddev;
};

/// An implementation of all operations for one device.
class Backend {
 public:
  virtual ~Backend() = default;
  /// Bytes of scratch memory the operations want; bound once before the first call.
  virtual std::size_t workspace_bytes() const = 0;
  virtual void bind_workspace(Tensor workspace) = 0;
  /// The kernels in use, for the log: "attention: portable mma.sync, matmul: cuBLASLt 13.0".
  virtual std::string description() const = 0;

  /// Every element becomes `value`; any dtype.
  virtual void fill(Tensor out, double value, Stream& stream) = 0;
  /// out = in, converted between fp32 and bf16 (equal types copy bytes, any dtype).
  virtual void cast(Tensor in, Tensor out, Stream& stream) = 0;
  /// inout += in in fp32, rounded to inout's type; fp32 and bf16 in any combination.
  virtual void add(Tensor in, Tensor inout, Stream& stream) = 0;
  /// out[b, a] = in[a, b] for rows of C elements: in [A, B, C], out [B, A, C], apart from each
  /// other; any dtype.
  virtual void transpose(Tensor in, Tensor out, Stream& stream) = 0;
  virtual void matmul(const MatmulArgs& args, Stream& stream) = 0;

  virtual void rms_norm(const RmsNormArgs& args, Stream& stream) = 0;
  virtual void rms_norm_backward(const RmsNormBackwardArgs& args, Stream& stream) = 0;
  virtual void rope_split(const RopeSplitArgs& args, Stream& stream) = 0;
  virtual void rope_merge(const RopeMergeArgs& args, Stream& stream) = 0;
  virtual void attention_forward(const AttentionForwardArgs& args, Stream& stream) = 0;
  virtual void attention_delta(const AttentionDeltaArgs& args, Stream& stream) = 0;
  virtual void attention_backward(const AttentionBackwardArgs& args, Stream& stream) = 0;
  /// Whether attention calls with such arguments may run on several streams at once: forward on
  /// different heads, backward if dquery is all that they both write.
  virtual bool attention_overlaps(const Tensor& query, const AttentionMask& mask) const = 0;
  virtual void swiglu_matmul(const SwigluMatmulArgs& args, Stream& stream) = 0;
  virtual void swiglu_matmul_backward(const SwigluMatmulBackwardArgs& args, Stream& stream) = 0;
  virtual void embedding(const EmbeddingArgs& args, Stream& stream) = 0;
  virtual void embedding_backward(const EmbeddingBackwardArgs& args, Stream& stream) = 0;
  virtual void cross_entropy_stats(const CrossEntropyStatsArgs& args, Stream& stream) = 0;
  virtual void cross_entropy_rescale(const CrossEntropyRescaleArgs& args, Stream& stream) = 0;
  virtual void cross_entropy_finish(const CrossEntropyFinishArgs& args, Stream& stream) = 0;

  virtual void sum_of_squares(const SumOfSquaresArgs& args, Stream& stream) = 0;
  virtual void clip_scale(const ClipScaleArgs& args, Stream& stream) = 0;
  virtual void adamw(const AdamWArgs& args, Stream& stream) = 0;
  virtual void adafactor(const AdafactorArgs& args, Stream& stream) = 0;
  virtual void random_normal(const RandomNormalArgs& args, Stream& stream) = 0;
};

/// What Backend::workspace_bytes says of the CUDA back end, on any machine and in any build.
std::size_t cuda_workspace_bytes();

std::unique_ptr<Backend> make_cpu_backend();
/// Checks shapes and computes nothing: lays out memory on the meta device.
/// `workspace_bytes` is what the real backend would ask for.
std::unique_ptr<Backend> make_meta_backend(std::size_t workspace_bytes);
/// Without `deterministic`, attention on Hopper sums dquery in any order, which is faster; equal
/// inputs then give results that are equal up to rounding of fp32 sums.
/// Errors: DeviceError in a build without CUDA.
std::unique_ptr<Backend> make_cuda_backend(Device& device, bool deterministic = true);

}  // namespace ringtrain
