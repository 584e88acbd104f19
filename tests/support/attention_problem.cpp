#include "support/attention_problem.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "ringtrain/ops/check.h"

namespace ringtrain {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Tokens [begin, begin + count) of every sequence of a [B, T, heads, H] tensor.
HostTensor tokens_of(const HostTensor& tensor, std::int64_t begin, std::int64_t count) {
  const Shape& shape = tensor.shape;
  const std::int64_t row = shape[2] * shape[3];
  HostTensor part(Shape{shape[0], count, shape[2], shape[3]});
  for (std::int64_t b = 0; b < shape[0]; ++b) {
    std::copy_n(tensor.values.begin() + (b * shape[1] + begin) * row, count * row,
                part.values.begin() + b * count * row);
  }
  return part;
}

void put_tokens(HostTensor& tensor, std::int64_t begin, const HostTensor& part) {
  const Shape& shape = tensor.shape;
  const std::int64_t row = shape[2] * shape[3], count = part.shape[1];
  for (std::int64_t b = 0; b < shape[0]; ++b) {
    std::copy_n(part.values.begin() + b * count * row, count * row,
                tensor.values.begin() + (b * shape[1] + begin) * row);
  }
}

/// The causal visibility of a step as a segment, if it has that form; positions ascend.
std::optional<AttentionSegment> segment_of(const std::vector<std::int32_t>& queries,
                                           const std::vector<std::int32_t>& keys) {
  const auto visible = [&](std::int32_t position) {
    return std::upper_bound(keys.begin(), keys.end(), position) - keys.begin();
  };
  const auto first = std::find_if(queries.begin(), queries.end(),
                                  [&](std::int32_t position) { return visible(position) > 0; });
  const std::int64_t num_keys = static_cast<std::int64_t>(keys.size());
  AttentionSegment segment{first - queries.begin(), queries.end() - first, 0, num_keys, 0};
  if (segment.qn == 0) return segment;
  segment.shift = visible(*first) - 1;
  if (visible(*first) == num_keys) segment.shift = num_keys;
  for (std::int64_t i = 0; i < segment.qn; ++i) {
    if (visible(*(first + i)) != std::min(num_keys, i + segment.shift + 1)) return std::nullopt;
  }
  return segment;
}

/// A step's keys and values on the device. Gradients begin as NaN where they are overwritten.
struct Part {
  std::int64_t begin;
  bool overwrites;
  Tensor key, value, dkey, dvalue, positions;
  std::optional<AttentionSegment> segment;
};

Part upload_part(TestDevice& device, DType dtype, const AttentionProblem& problem,
                 std::int64_t begin, std::int64_t end, bool overwrites) {
  const HostTensor key = tokens_of(problem.key, begin, end - begin);
  const HostTensor value = tokens_of(problem.value, begin, end - begin);
  const HostTensor zeros(key.shape);
  const std::vector<std::int32_t> positions(problem.key_positions.begin() + begin,
                                            problem.key_positions.begin() + end);
  const DType gradient_type = problem.rounds_key_value ? dtype : accumulator_of(dtype);
  const auto gradient = [&] {
    return overwrites ? device.poisoned(key.shape, gradient_type)
                      : device.upload(zeros, gradient_type);
  };
  return {begin,
          overwrites,
          device.upload(key, dtype),
          device.upload(value, dtype),
          gradient(),
          gradient(),
          device.upload(positions),
          segment_of(problem.query_positions, positions)};
}

}  // namespace

std::vector<std::int32_t> ascending(std::int64_t count, std::int32_t offset) {
  std::vector<std::int32_t> positions(static_cast<std::size_t>(count));
  std::iota(positions.begin(), positions.end(), offset);
  return positions;
}

std::vector<std::int32_t> zigzag(std::int32_t rank, std::int32_t ranks, std::int32_t chunk) {
  std::vector<std::int32_t> positions = ascending(chunk, rank * chunk);
  const std::vector<std::int32_t> second = ascending(chunk, (2 * ranks - 1 - rank) * chunk);
  positions.insert(positions.end(), second.begin(), second.end());
  return positions;
}

AttentionProblem random_attention(Shape query, std::int64_t num_keys, std::int64_t kv_heads,
                                  std::uint64_t seed, DType dtype) {
  const Shape key{query[0], num_keys, kv_heads, query[3]};
  AttentionProblem problem;
  problem.query = random_normal(query, seed, dtype);
  problem.key = random_normal(key, seed + 1, dtype);
  problem.value = random_normal(key, seed + 2, dtype);
  problem.dout = random_normal(query, seed + 3, dtype);
  problem.query_positions = ascending(query[1]);
  problem.key_positions = ascending(num_keys);
  problem.softmax_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(query[3])));
  return problem;
}

AttentionResult attend(TestDevice& device, DType dtype, const AttentionProblem& problem,
                       int num_steps, int first_part) {
  const Arena::Scope scope(device.arena());
  const DType accumulator = accumulator_of(dtype);
  const Shape& shape = problem.query.shape;
  const Shape rows{shape[0], shape[2], shape[1]};
  const std::int64_t num_keys = problem.key.shape[1];
  const Tensor query = device.upload(problem.query, dtype);
  const Tensor dout = device.upload(problem.dout, dtype);
  const Tensor out = device.poisoned(shape, dtype);
  const Tensor partial = device.poisoned(shape, accumulator);
  const Tensor lse = device.poisoned(rows, accumulator);
  const Tensor delta = device.poisoned(rows, accumulator);
  const Tensor dquery = device.upload(HostTensor(shape), accumulator);
  AttentionMask mask{.query_positions = device.upload(problem.query_positions),
                     .key_positions = {},
                     .lowest_visible = {},
                     .causal = problem.causal,
                     .segment = {}};
  if (!problem.lowest_visible.empty()) {
    mask.lowest_visible = device.upload(problem.lowest_visible, {shape[0], shape[1]});
  }

  std::vector<Part> parts;
  for (int step = 0; step < num_steps; ++step) {
    const int part = (first_part - step + num_steps) % num_steps;
    parts.push_back(upload_part(device, dtype, problem, num_keys * part / num_steps,
                                num_keys * (part + 1) / num_steps,
                                /*overwrites=*/problem.rounds_key_value || step % 2 == 0));
    mask.key_positions = parts.back().positions;
    mask.segment = parts.back().segment;
    const bool first = step == 0, last = step == num_steps - 1;
    device.backend().attention_forward({.query = query,
                                        .key = parts.back().key,
                                        .value = parts.back().value,
                                        .partial = first && last ? Tensor() : partial,
                                        .lse = lse,
                                        .out = last ? out : Tensor(),
                                        .mask = mask,
                                        .softmax_scale = problem.softmax_scale,
                                        .first = first,
                                        .last = last,
                                        .query_chunk_size = problem.query_chunk_size,
                                        .key_chunk_size = problem.key_chunk_size,
                                        .free_processors = problem.free_processors},
                                       device.stream());
  }
  device.backend().attention_delta({.out = out, .dout = dout, .delta = delta}, device.stream());
  AttentionResult result{device.download(out), device.download(lse), HostTensor(),
                         HostTensor(problem.key.shape), HostTensor(problem.key.shape)};
  for (const Part& part : parts) {
    mask.key_positions = part.positions;
    mask.segment = part.segment;
    device.backend().attention_backward({.query = query,
                                         .key = part.key,
                                         .value = part.value,
                                         .dout = dout,
                                         .lse = lse,
                                         .delta = delta,
                                         .dquery = dquery,
                                         .dkey = part.dkey,
                                         .dvalue = part.dvalue,
                                         .mask = mask,
                                         .softmax_scale = problem.softmax_scale,
                                         .overwrite_key_value = part.overwrites,
                                         .skipped = problem.skipped,
                                         .query_chunk_size = problem.query_chunk_size,
                                         .key_chunk_size = problem.key_chunk_size},
                                        device.stream());
    put_tokens(result.dkey, part.begin, device.download(part.dkey));
    put_tokens(result.dvalue, part.begin, device.download(part.dvalue));
  }
  result.dquery = device.download(dquery);
  return result;
}

AttentionResult attend_plainly(const AttentionProblem& problem, DType dtype) {
  const auto round = [dtype](double value) { return rounded(HostTensor({1}, value), dtype)[0]; };
  const Shape& shape = problem.query.shape;
  const std::int64_t tokens = shape[1], heads = shape[2], head_dim = shape[3];
  const std::int64_t num_keys = problem.key.shape[1], kv_heads = problem.key.shape[2];
  AttentionResult result{HostTensor(shape), HostTensor(Shape{shape[0], heads, tokens}),
                         HostTensor(shape), HostTensor(problem.key.shape),
                         HostTensor(problem.key.shape)};
  std::vector<double> p(static_cast<std::size_t>(num_keys));
  for (std::int64_t row = 0; row < shape[0] * heads * tokens; ++row) {
    const std::int64_t b = row / (heads * tokens), n = row / tokens % heads, t = row % tokens;
    const std::int64_t q = ((b * tokens + t) * heads + n) * head_dim;
    const auto key_row = [&](std::int64_t key) {
      return ((b * num_keys + key) * kv_heads + n / (heads / kv_heads)) * head_dim;
    };
    const auto product = [&](const HostTensor& x, std::int64_t i, const HostTensor& y,
                             std::int64_t j) {
      return std::inner_product(x.values.begin() + i, x.values.begin() + i + head_dim,
                                y.values.begin() + j, 0.0);
    };
    double largest = -kInfinity;
    for (std::int64_t key = 0; key < num_keys; ++key) {
      const auto at = static_cast<std::size_t>(key);
      const std::int32_t position = problem.key_positions[at];
      const bool hidden =
          (problem.causal && position > problem.query_positions[static_cast<std::size_t>(t)]) ||
          (!problem.lowest_visible.empty() &&
           position < problem.lowest_visible[static_cast<std::size_t>(b * tokens + t)]);
      p[at] = hidden ? -kInfinity
                     : round(problem.softmax_scale *
                             round(product(problem.query, q, problem.key, key_row(key))));
      largest = std::max(largest, p[at]);
    }
    double sum = 0;
    for (double& score : p) {
      score = score == -kInfinity ? 0 : std::exp(score - largest);
      sum += score;
    }
    result.lse[(b * heads + n) * tokens + t] = sum == 0 ? -kInfinity : largest + std::log(sum);
    if (sum == 0) continue;
    for (std::int64_t key = 0; key < num_keys; ++key) {
      double& probability = p[static_cast<std::size_t>(key)];
      probability = round(probability / sum);
      for (std::int64_t d = 0; d < head_dim; ++d) {
        result.out[q + d] += probability * problem.value[key_row(key) + d];
      }
    }
    for (std::int64_t d = 0; d < head_dim; ++d) result.out[q + d] = round(result.out[q + d]);
    const double delta = product(result.out, q, problem.dout, q);
    for (std::int64_t key = 0; key < num_keys; ++key) {
      const double probability = p[static_cast<std::size_t>(key)];
      const std::int64_t k = key_row(key);
      const double dp = round(product(problem.dout, q, problem.value, k));
      const double ds = round(problem.softmax_scale * probability * (dp - delta));
      for (std::int64_t d = 0; d < head_dim; ++d) {
        result.dvalue[k + d] += probability * problem.dout[q + d];
        result.dkey[k + d] += ds * problem.query[q + d];
        result.dquery[q + d] += ds * problem.key[k + d];
      }
    }
  }
  result.dquery = rounded(result.dquery, dtype);
  result.dkey = rounded(result.dkey, dtype);
  result.dvalue = rounded(result.dvalue, dtype);
  return result;
}

}  // namespace ringtrain
