#include "ringtrain/ops/check.h"

#include <fmt/format.h>

#include "checker.h"

namespace ringtrain {
namespace {

void check_mask(const Checker& check, const AttentionMask& mask, std::int64_t batch,
                std::int64_t num_queries, std::int64_t num_keys) {
  check.tensor("mask.query_positions", mask.query_positions, Shape{num_queries}, {DType::kInt32});
  check.tensor("mask.key_positions", mask.key_positions, Shape{num_keys}, {DType::kInt32});
  if (mask.lowest_visible) {
    check.tensor("mask.lowest_visible", mask.lowest_visible, Shape{batch, num_queries},
                 {DType::kInt32});
  }
}

/// What the forward and the backward step have in common.
template <typename Args>
void check_attention(const Checker& check, const Args& args) {
  check.compute("query", args.query, 4);
  const DType type = args.query.dtype();
  const DType accumulator = accumulator_of(type);
  const Tensor& q = args.query;
  check.tensor("key", args.key, 4, {type});
  const Tensor& k = args.key;
  check.tensor("value", args.value, k.shape(), {type});
  check.require(k.size(0) == q.size(0) && k.size(3) == q.size(3) && k.size(2) > 0 &&
                    q.size(2) % k.size(2) == 0,
                fmt::format("key {} does not fit query {}: batch and head size must be equal, the "
                            "key heads must divide the query heads",
                            k.shape().to_string(), q.shape().to_string()));
  check.tensor("lse", args.lse, Shape{q.size(0), q.size(2), q.size(1)}, {accumulator});
  check_mask(check, args.mask, q.size(0), q.size(1), k.size(1));
  check.require(args.query_chunk_size >= 0 && args.key_chunk_size >= 0,
                fmt::format("chunk sizes must not be negative, got {} and {}",
                            args.query_chunk_size, args.key_chunk_size));
}

/// The common part of rotating and packing the heads of one projection.
void check_rope(const Checker& check, const Tensor& packed, const Tensor& query,
                const Tensor& key_value, const Tensor& positions, const Tensor& inverse_frequency) {
  const std::int64_t batch = query.size(0), tokens = query.size(1), head_dim = query.size(3);
  check.require(head_dim % 2 == 0,
                fmt::format("head_dim must be even, query is {}", query.shape().to_string()));
  const Shape keys{2, batch, tokens, key_value.size(3), head_dim};
  check.require(
      key_value.shape() == keys,
      fmt::format("key_value is {}, where {} is needed beside query {}",
                  key_value.shape().to_string(), keys.to_string(), query.shape().to_string()));
  const Shape heads{batch, tokens, query.size(2) + 2 * key_value.size(3), head_dim};
  check.require(
      packed.shape() == heads,
      fmt::format("qkv is {}, where {} is needed beside query {}", packed.shape().to_string(),
                  heads.to_string(), query.shape().to_string()));
  check.tensor("positions", positions, Shape{tokens}, {DType::kInt32});
  check.tensor("inverse_frequency", inverse_frequency, Shape{head_dim / 2}, {DType::kFloat32});
}

void check_vocabulary(const Checker& check, const Tensor& logits, const Tensor& targets,
                      const Tensor& stats, std::int64_t num_valid) {
  check.compute("logits", logits, 2);
  check.tensor("targets", targets, Shape{logits.size(0)}, {DType::kInt32});
  check.tensor("stats", stats, Shape{4, logits.size(0)}, {accumulator_of(logits.dtype())});
  check.require(num_valid >= 0 && num_valid <= logits.size(1),
                fmt::format("num_valid {} leaves the columns of logits {}", num_valid,
                            logits.shape().to_string()));
}

void check_ranges(const Checker& check, const Tensor& ranges) {
  check.tensor("ranges", ranges, 2, {DType::kInt64});
  check.tensor("ranges", ranges, Shape{ranges.size(0), 4}, {DType::kInt64});
}

/// The flat tensors of an optimizer step.
template <typename Args>
void check_optimizer(const Checker& check, const Args& args) {
  check.tensor("param", args.param, 1, {DType::kFloat32, DType::kFloat64});
  const DType type = args.param.dtype();
  const Shape shape = args.param.shape();
  check.tensor("grad", args.grad, shape, {type});
  check.tensor("factor", args.factor, Shape{2}, {type});
  check.tensor("m", args.m, shape, {type, DType::kBFloat16});
  check.tensor("v", args.v, shape, {type});
}

}  // namespace

DType accumulator_of(DType compute) {
  return compute == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

void check_fill(const Tensor& out) {
  const Checker check("fill");
  check.tensor("out", out, out.shape(),
               {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kInt32, DType::kInt64});
}

void check_cast(const Tensor& in, const Tensor& out) {
  const Checker check("cast");
  if (in.dtype() == out.dtype()) {
    check.tensor("out", out, in.shape(), {in.dtype()});
    return;
  }
  check.tensor("in", in, in.shape(), {DType::kFloat32, DType::kBFloat16});
  check.tensor("out", out, in.shape(), {DType::kFloat32, DType::kBFloat16});
}

void check_add(const Tensor& in, const Tensor& inout) {
  const Checker check("add");
  check.compute("in", in, in.shape().rank());
  if (in.dtype() == DType::kFloat64) {
    check.tensor("inout", inout, in.shape(), {DType::kFloat64});
  } else {
    check.tensor("inout", inout, in.shape(), {DType::kFloat32, DType::kBFloat16});
  }
}

void check_transpose(const Tensor& in, const Tensor& out) {
  const Checker check("transpose");
  check.tensor("in", in, 3, {in.dtype()});
  check.tensor("out", out, Shape{in.size(1), in.size(0), in.size(2)}, {in.dtype()});
  check.require(in.raw() != out.raw() || in.num_elements() == 0, "not possible in place");
}

void check_args(const MatmulArgs& args) {
  const Checker check("matmul");
  check.compute("a", args.a, 2);
  const DType type = args.a.dtype();
  check.tensor("b", args.b, 2, {type});
  const auto [m, k_of_a] = args.transpose_a ? std::pair{args.a.size(1), args.a.size(0)}
                                            : std::pair{args.a.size(0), args.a.size(1)};
  const auto [k_of_b, n] = args.transpose_b ? std::pair{args.b.size(1), args.b.size(0)}
                                            : std::pair{args.b.size(0), args.b.size(1)};
  check.require(k_of_a == k_of_b,
                fmt::format("a {}{} and b {}{} do not multiply", args.a.shape().to_string(),
                            args.transpose_a ? " transposed" : "", args.b.shape().to_string(),
                            args.transpose_b ? " transposed" : ""));
  check.tensor("out", args.out, Shape{m, n}, {type, accumulator_of(type)});
  if (args.addend) {
    check.tensor("addend", args.addend, Shape{m, n}, {args.out.dtype()});
    check.require(!args.accumulate, "out and addend are both to be added");
    check.require(args.addend.raw() != args.out.raw() || args.out.num_elements() == 0,
                  "addend is out itself; accumulate adds to out");
  }
}

void check_args(const RmsNormArgs& args) {
  const Checker check("rms_norm");
  check.compute("x", args.x, 2);
  const DType type = args.x.dtype();
  check.tensor("weight", args.weight, Shape{args.x.size(1)}, {type});
  check.tensor("out", args.out, args.x.shape(), {type});
  check.tensor("rstd", args.rstd, Shape{args.x.size(0)}, {accumulator_of(type)});
}

void check_args(const RmsNormBackwardArgs& args) {
  const Checker check("rms_norm_backward");
  check.compute("x", args.x, 2);
  const DType type = args.x.dtype();
  check.tensor("dout", args.dout, args.x.shape(), {type});
  check.tensor("weight", args.weight, Shape{args.x.size(1)}, {type});
  check.tensor("rstd", args.rstd, Shape{args.x.size(0)}, {accumulator_of(type)});
  check.tensor("dx", args.dx, args.x.shape(), {type});
  check.tensor("dweight", args.dweight, Shape{args.x.size(1)}, {accumulator_of(type)});
}

void check_args(const RopeSplitArgs& args) {
  const Checker check("rope_split");
  check.compute("qkv", args.qkv, 4);
  check.tensor("query", args.query, 4, {args.qkv.dtype()});
  check.tensor("key_value", args.key_value, 5, {args.qkv.dtype()});
  check_rope(check, args.qkv, args.query, args.key_value, args.positions, args.inverse_frequency);
}

void check_args(const RopeMergeArgs& args) {
  const Checker check("rope_merge");
  check.compute("dqkv", args.dqkv, 4);
  const DType accumulator = accumulator_of(args.dqkv.dtype());
  check.tensor("dquery", args.dquery, 4, {accumulator});
  check.tensor("dkey_value", args.dkey_value, 5, {accumulator, args.dqkv.dtype()});
  check_rope(check, args.dqkv, args.dquery, args.dkey_value, args.positions,
             args.inverse_frequency);
}

void check_args(const AttentionForwardArgs& args) {
  const Checker check("attention_forward");
  check_attention(check, args);
  const DType type = args.query.dtype();
  check.require(args.partial || (args.first && args.last),
                "partial is absent, though the step does not begin and end the row");
  if (args.partial) {
    check.tensor("partial", args.partial, args.query.shape(), {accumulator_of(type)});
  }
  if (args.last) check.tensor("out", args.out, args.query.shape(), {type});
  const std::int64_t heads = args.query.size(2);
  const std::int64_t group = args.key.size(2) > 0 ? heads / args.key.size(2) : 1;
  check.require(args.first_head >= 0 && args.num_heads >= 0 && args.first_head % group == 0 &&
                    args.num_heads % group == 0 && args.first_head + args.num_heads <= heads &&
                    (args.num_heads > 0 || args.first_head == 0),
                "the range of heads is not one of whole groups");
}

void check_args(const AttentionDeltaArgs& args) {
  const Checker check("attention_delta");
  check.compute("out", args.out, 4);
  const DType type = args.out.dtype();
  check.tensor("dout", args.dout, args.out.shape(), {type});
  check.tensor("delta", args.delta, Shape{args.out.size(0), args.out.size(2), args.out.size(1)},
               {accumulator_of(type)});
}

void check_args(const AttentionBackwardArgs& args) {
  const Checker check("attention_backward");
  check_attention(check, args);
  const DType type = args.query.dtype();
  const DType accumulator = accumulator_of(type);
  check.tensor("dout", args.dout, args.query.shape(), {type});
  check.tensor("delta", args.delta, args.lse.shape(), {accumulator});
  check.tensor("dquery", args.dquery, args.query.shape(), {accumulator});
  check.tensor("dkey", args.dkey, args.key.shape(), {accumulator, type});
  check.require(args.overwrite_key_value || args.dkey.dtype() == accumulator,
                "dkey is added to, but is not of the accumulator's type");
  check.tensor("dvalue", args.dvalue, args.key.shape(), {args.dkey.dtype()});
  const SkippedKeys& skipped = args.skipped;
  check.require(
      skipped.tokens == 0 || (args.key.size(0) == 1 && skipped.begin >= 0 && skipped.tokens > 0 &&
                              skipped.begin + skipped.tokens <= args.key.size(1)),
      "the skipped keys are not some of one sequence");
}

void check_args(const SwigluMatmulArgs& args) {
  const Checker check("swiglu_matmul");
  check.compute("x", args.x, 2);
  const DType type = args.x.dtype();
  check.tensor("weight", args.weight, 2, {type});
  check.require(
      args.weight.size(0) % 2 == 0 && args.weight.size(1) == args.x.size(1),
      fmt::format("weight {} does not hold as many rows for gate as for up, as long as those of x "
                  "{}",
                  args.weight.shape().to_string(), args.x.shape().to_string()));
  const std::int64_t rows = args.x.size(0);
  const std::int64_t width = args.weight.size(0) / 2;
  if (args.gate_up) check.tensor("gate_up", args.gate_up, Shape{rows, 2 * width}, {type});
  if (args.out || !args.gate_up) check.tensor("out", args.out, Shape{rows, width}, {type});
}

void check_args(const SwigluMatmulBackwardArgs& args) {
  const Checker check("swiglu_matmul_backward");
  check.compute("dout", args.dout, 2);
  const DType type = args.dout.dtype();
  check.tensor("weight", args.weight, 2, {type});
  const std::int64_t rows = args.dout.size(0);
  const std::int64_t width = args.weight.size(1);
  check.require(args.weight.size(0) == args.dout.size(1),
                fmt::format("dout {} and weight {} do not multiply", args.dout.shape().to_string(),
                            args.weight.shape().to_string()));
  check.tensor("gate_up", args.gate_up, Shape{rows, 2 * width}, {type});
  check.tensor("dgate_up", args.dgate_up, Shape{rows, 2 * width}, {type});
  if (args.activation) check.tensor("activation", args.activation, Shape{rows, width}, {type});
}

void check_args(const EmbeddingArgs& args) {
  const Checker check("embedding");
  check.compute("table", args.table, 2);
  check.tensor("tokens", args.tokens, 1, {DType::kInt32});
  check.tensor("out", args.out, Shape{args.tokens.size(0), args.table.size(1)},
               {args.table.dtype()});
}

void check_args(const EmbeddingBackwardArgs& args) {
  const Checker check("embedding_backward");
  check.compute("dout", args.dout, 2);
  check.tensor("tokens", args.tokens, Shape{args.dout.size(0)}, {DType::kInt32});
  check.tensor("dtable", args.dtable, 2, {accumulator_of(args.dout.dtype())});
  check.tensor("dtable", args.dtable, Shape{args.dtable.size(0), args.dout.size(1)},
               {accumulator_of(args.dout.dtype())});
}

void check_args(const CrossEntropyStatsArgs& args) {
  const Checker check("cross_entropy_stats");
  check_vocabulary(check, args.logits, args.targets, args.stats, args.num_valid);
}

void check_args(const CrossEntropyRescaleArgs& args) {
  const Checker check("cross_entropy_rescale");
  check.tensor("maximum", args.maximum, 1, {DType::kFloat32, DType::kFloat64});
  check.tensor("stats", args.stats, Shape{4, args.maximum.size(0)}, {args.maximum.dtype()});
}

void check_args(const CrossEntropyFinishArgs& args) {
  const Checker check("cross_entropy_finish");
  check_vocabulary(check, args.logits, args.targets, args.stats, args.num_valid);
  check.tensor("weights", args.weights, Shape{args.logits.size(0)},
               {accumulator_of(args.logits.dtype())});
  check.tensor("totals", args.totals, Shape{2}, {DType::kFloat64});
}

void check_args(const SumOfSquaresArgs& args) {
  const Checker check("sum_of_squares");
  check.tensor("x", args.x, 1, {DType::kFloat32, DType::kFloat64});
  check_ranges(check, args.ranges);
  check.tensor("sums", args.sums, 1, {DType::kFloat64});
}

void check_args(const ClipScaleArgs& args) {
  const Checker check("clip_scale");
  check.tensor("sums", args.sums, 1, {DType::kFloat64});
  check.tensor("out", args.out, Shape{2}, {DType::kFloat32, DType::kFloat64});
}

void check_args(const AdamWArgs& args) {
  const Checker check("adamw");
  check_optimizer(check, args);
  if (args.weights) {
    check.tensor("weights", args.weights, args.param.shape(),
                 {args.param.dtype(), DType::kBFloat16});
  }
  check.require(args.step >= 1, fmt::format("steps count from 1, got {}", args.step));
}

void check_args(const AdafactorArgs& args) {
  const Checker check("adafactor");
  check_optimizer(check, args);
  check_ranges(check, args.ranges);
  check.tensor("param_sums", args.param_sums, 1, {DType::kFloat64});
  check.tensor("param_counts", args.param_counts, args.param_sums.shape(), {DType::kFloat64});
  check.require(args.step >= 0, fmt::format("steps count from 0, got {}", args.step));
}

void check_args(const RandomNormalArgs& args) {
  const Checker check("random_normal");
  check.tensor("out", args.out, 1, {DType::kFloat32, DType::kFloat64});
  check.require(args.first_counter >= 0,
                fmt::format("first_counter must not be negative, got {}", args.first_counter));
}

}  // namespace ringtrain
