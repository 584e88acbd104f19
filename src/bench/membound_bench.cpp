#include "ringtrain/bench/membound_bench.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <set>

#include "ringtrain/bench/timing.h"
#include "ringtrain/core/error.h"
#include "ringtrain/core/random.h"

namespace ringtrain {
namespace {

struct Bench {
  Device& device;
  Backend& ops;
  DType compute;
  const MemboundSizes& sizes;
  BenchTensors& tensors;

  Stream& stream() const { return tensors.stream(); }
  Tensor random(Shape shape, std::uint64_t key = 1) const {
    return tensors.random(shape, compute, key);
  }
  Tensor floats(Shape shape, std::uint64_t key = 1) const {
    return tensors.random(shape, DType::kFloat32, key);
  }
  /// Uniform in [0, vocabulary).
  std::vector<std::int32_t> draw_tokens() const {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(sizes.tokens));
    std::uint64_t counter = 0;
    for (std::int32_t& token : tokens) {
      const auto [word, x, y, z] = philox4x32(/*key=*/7, counter++);
      token = static_cast<std::int32_t>(word % static_cast<std::uint64_t>(sizes.vocabulary));
    }
    return tokens;
  }
  Tensor upload(const std::vector<std::int32_t>& values) const {
    return tensors.upload(values, {static_cast<std::int64_t>(values.size())}, DType::kInt32);
  }
};

/// An operation ready to be called, and the bytes that it must move.
struct Work {
  double bytes;
  std::function<void()> call;
};

template <typename... Tensors>
double bytes_of(const Tensors&... tensors) {
  return static_cast<double>((tensors.bytes() + ...));
}

Work copy(const Bench& b) {
  constexpr std::int64_t kWords = std::int64_t{1} << 28;  // 1 GiB there and 1 GiB back
  const bool is_small = b.device.type() != DeviceType::kCuda;
  const Shape shape{is_small ? kWords >> 8 : kWords};
  const Tensor from = b.tensors.allocate(shape, DType::kInt32);
  const Tensor to = b.tensors.allocate(shape, DType::kInt32);
  b.ops.fill(from, 1, b.stream());
  return {bytes_of(from, to),
          [=] { b.device.copy_on_device(to.raw(), from.raw(), from.bytes(), b.stream()); }};
}

Work rms_norm(const Bench& b) {
  const Shape rows{b.sizes.tokens, b.sizes.hidden};
  const RmsNormArgs args{.x = b.random(rows),
                         .weight = b.random({b.sizes.hidden}),
                         .out = b.random(rows),
                         .rstd = b.floats({b.sizes.tokens}),
                         .eps = 1e-6f};
  return {bytes_of(args.x, args.weight, args.out, args.rstd),
          [=] { b.ops.rms_norm(args, b.stream()); }};
}

Work rms_norm_backward(const Bench& b) {
  const Shape rows{b.sizes.tokens, b.sizes.hidden};
  const RmsNormBackwardArgs args{.dout = b.random(rows, 1),
                                 .x = b.random(rows, 2),
                                 .weight = b.random({b.sizes.hidden}),
                                 .rstd = b.floats({b.sizes.tokens}),
                                 .dx = b.random(rows, 3),
                                 .dweight = b.floats({b.sizes.hidden})};
  return {bytes_of(args.dout, args.x, args.weight, args.rstd) + 2 * bytes_of(args.dx, args.dweight),
          [=] { b.ops.rms_norm_backward(args, b.stream()); }};
}

/// Query, key and value of a layer, packed and apart.
struct Heads {
  explicit Heads(const Bench& b)
      : query{1, b.sizes.tokens, b.sizes.heads, b.sizes.head_dim},
        key_value{2, 1, b.sizes.tokens, b.sizes.kv_heads, b.sizes.head_dim},
        packed{1, b.sizes.tokens, b.sizes.heads + 2 * b.sizes.kv_heads, b.sizes.head_dim},
        inverse_frequency(b.floats({b.sizes.head_dim / 2})) {
    std::vector<std::int32_t> ascending(static_cast<std::size_t>(b.sizes.tokens));
    std::iota(ascending.begin(), ascending.end(), 0);
    positions = b.upload(ascending);
  }
  Shape query, key_value, packed;
  Tensor inverse_frequency, positions;
};

Work rope_split(const Bench& b) {
  const Heads heads(b);
  const RopeSplitArgs args{.qkv = b.random(heads.packed),
                           .positions = heads.positions,
                           .inverse_frequency = heads.inverse_frequency,
                           .query = b.random(heads.query),
                           .key_value = b.random(heads.key_value)};
  return {bytes_of(args.qkv, args.positions, args.query, args.key_value),
          [=] { b.ops.rope_split(args, b.stream()); }};
}

Work rope_merge(const Bench& b) {
  const Heads heads(b);
  const RopeMergeArgs args{.dquery = b.floats(heads.query, 1),
                           .dkey_value = b.random(heads.key_value, 2),  // of a whole backward pass
                           .positions = heads.positions,
                           .inverse_frequency = heads.inverse_frequency,
                           .dqkv = b.random(heads.packed)};
  return {bytes_of(args.dquery, args.dkey_value, args.positions, args.dqkv),
          [=] { b.ops.rope_merge(args, b.stream()); }};
}

Work attention_delta(const Bench& b) {
  const Shape shape{1, b.sizes.tokens, b.sizes.heads, b.sizes.head_dim};
  const AttentionDeltaArgs args{.out = b.random(shape, 1),
                                .dout = b.random(shape, 2),
                                .delta = b.floats({1, b.sizes.heads, b.sizes.tokens})};
  return {bytes_of(args.out, args.dout, args.delta),
          [=] { b.ops.attention_delta(args, b.stream()); }};
}

Work transpose(const Bench& b) {
  const Tensor in = b.random({b.sizes.tokens, b.sizes.heads, b.sizes.head_dim});
  const Tensor out = b.random({b.sizes.heads, b.sizes.tokens, b.sizes.head_dim});
  return {bytes_of(in, out), [=] { b.ops.transpose(in, out, b.stream()); }};
}

Work add(const Bench& b) {
  const Tensor in = b.random({b.sizes.tokens, b.sizes.hidden}, 1);
  const Tensor inout = b.random({b.sizes.tokens, b.sizes.hidden}, 2);
  return {bytes_of(in) + 2 * bytes_of(inout), [=] { b.ops.add(in, inout, b.stream()); }};
}

Work embedding(const Bench& b) {
  const EmbeddingArgs args{.tokens = b.upload(b.draw_tokens()),
                           .table = b.random({b.sizes.vocabulary, b.sizes.hidden}),
                           .out = b.random({b.sizes.tokens, b.sizes.hidden})};
  return {bytes_of(args.tokens) + 2 * bytes_of(args.out),
          [=] { b.ops.embedding(args, b.stream()); }};
}

Work embedding_backward(const Bench& b) {
  const std::vector<std::int32_t> tokens = b.draw_tokens();
  const auto distinct = static_cast<double>(std::set(tokens.begin(), tokens.end()).size());
  const EmbeddingBackwardArgs args{.tokens = b.upload(tokens),
                                   .dout = b.random({b.sizes.tokens, b.sizes.hidden}),
                                   .dtable = b.floats({b.sizes.vocabulary, b.sizes.hidden})};
  const double touched = distinct / static_cast<double>(b.sizes.vocabulary);
  return {bytes_of(args.tokens, args.dout) + 2 * touched * bytes_of(args.dtable),
          [=] { b.ops.embedding_backward(args, b.stream()); }};
}

struct Logits {
  explicit Logits(const Bench& b)
      : logits(b.random({b.sizes.tokens, b.sizes.vocabulary})),
        targets(b.upload(b.draw_tokens())),
        stats(b.floats({4, b.sizes.tokens})) {}
  void compute_stats(const Bench& b) const {
    b.ops.cross_entropy_stats({logits, targets, stats, 0, b.sizes.vocabulary}, b.stream());
  }
  Tensor logits, targets, stats;
};

Work cross_entropy_stats(const Bench& b) {
  const Logits all(b);
  return {bytes_of(all.logits, all.targets, all.stats), [=] { all.compute_stats(b); }};
}

Work cross_entropy_finish(const Bench& b) {
  const Logits all(b);
  all.compute_stats(b);
  const Tensor weights = b.floats({b.sizes.tokens});
  const Tensor totals = b.tensors.allocate({2}, DType::kFloat64);
  b.ops.fill(weights, 1, b.stream());
  b.ops.fill(totals, 0, b.stream());
  return {2 * bytes_of(all.logits) + bytes_of(all.targets, all.stats, weights), [=] {
            b.ops.cross_entropy_finish(
                {all.logits, all.targets, weights, all.stats, totals, 0, b.sizes.vocabulary},
                b.stream());
          }};
}

Work sum_of_squares(const Bench& b) {
  const SumOfSquaresArgs args{.x = b.floats({b.sizes.parameters}),
                              .ranges = b.tensors.upload<std::int64_t>(
                                  {0, b.sizes.parameters, 0, 1}, {1, 4}, DType::kInt64),
                              .sums = b.tensors.allocate({1}, DType::kFloat64)};
  b.ops.fill(args.sums, 0, b.stream());
  return {bytes_of(args.x), [=] { b.ops.sum_of_squares(args, b.stream()); }};
}

Work adamw(const Bench& b) {
  const Shape shard{b.sizes.parameters};
  const Tensor sums = b.tensors.allocate({1}, DType::kFloat64);
  const Tensor factor = b.floats({2});
  b.ops.fill(sums, 4, b.stream());
  b.ops.clip_scale({sums, factor, 1.0, std::numeric_limits<double>::infinity()}, b.stream());
  AdamWArgs args{.param = b.floats(shard, 1),
                 .grad = b.floats(shard, 2),
                 .factor = factor,
                 .m = b.floats(shard, 3),
                 .v = b.floats(shard, 4),
                 .weights = b.random(shard, 5),
                 .learning_rate = 1e-4,
                 .b1 = 0.9,
                 .b2 = 0.95,
                 .eps = 1e-8,
                 .weight_decay = 0.1,
                 .step = 1};
  b.ops.fill(args.v, 1, b.stream());  // a second moment is positive
  return {2 * bytes_of(args.param, args.m, args.v) + bytes_of(args.grad, args.weights),
          [=] { b.ops.adamw(args, b.stream()); }};
}

Work cast(const Bench& b) {
  const Tensor in = b.floats({b.sizes.parameters}, 1);
  const Tensor out = b.random({b.sizes.parameters}, 2);
  return {bytes_of(in, out), [=] { b.ops.cast(in, out, b.stream()); }};
}

Work zero(const Bench& b) {
  const Tensor out = b.floats({b.sizes.parameters});
  return {bytes_of(out), [=] { b.ops.fill(out, 0, b.stream()); }};
}

struct Operation {
  std::string_view name;
  Work (*prepare)(const Bench&);
};
constexpr std::array kOperations{
    Operation{"copy", copy},
    Operation{"rms_norm", rms_norm},
    Operation{"rms_norm_backward", rms_norm_backward},
    Operation{"rope_split", rope_split},
    Operation{"rope_merge", rope_merge},
    Operation{"attention_delta", attention_delta},
    Operation{"transpose", transpose},
    Operation{"add", add},
    Operation{"embedding", embedding},
    Operation{"embedding_backward", embedding_backward},
    Operation{"cross_entropy_stats", cross_entropy_stats},
    Operation{"cross_entropy_finish", cross_entropy_finish},
    Operation{"sum_of_squares", sum_of_squares},
    Operation{"adamw", adamw},
    Operation{"cast", cast},
    Operation{"zero", zero},
};

}  // namespace

std::vector<std::string_view> membound_operations() {
  std::vector<std::string_view> names;
  for (const Operation& operation : kOperations) names.push_back(operation.name);
  return names;
}

MemboundResult time_membound(Device& device, Backend& ops, DType compute,
                             const MemboundSizes& sizes, std::string_view operation, int warmups,
                             int runs) {
  const auto* const found = std::ranges::find(kOperations, operation, &Operation::name);
  if (found == kOperations.end()) {
    throw InvalidArgument(
        fmt::format("'{}' is none of {}", operation, fmt::join(membound_operations(), ", ")));
  }
  BenchTensors tensors(device, ops);
  const Work work = found->prepare({device, ops, compute, sizes, tensors});
  return {found->name, work.bytes, median_ms(device, tensors.stream(), warmups, runs, work.call)};
}

}  // namespace ringtrain
