#include "ringtrain/parallel/selftest.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "ringtrain/comm/wire_bytes.h"

namespace ringtrain {
namespace {

/// What rank `rank` has at element i: small integers, so sums are exact in fp32.
float value_of(int rank, std::int64_t i) {
  return static_cast<float>((i * 3 + rank * 5 + 1) % 7);
}

float sum_of(int num_ranks, std::int64_t i) {
  float sum = 0;
  for (int rank = 0; rank < num_ranks; ++rank) sum += value_of(rank, i);
  return sum;
}

}  // namespace

Selftest::Selftest(const Rank& rank, const SelftestOptions& options)
    : rank_(rank), options_(options) {
  const Mesh& mesh = rank.mesh;
  const auto check = [&](Communicator& group, void (Selftest::*collective)(Communicator&)) {
    if (group.size() == 1) return;
    (this->*collective)(group);
    clear();
  };
  check(*mesh.tp, &Selftest::check_all_reduce);
  check(*mesh.param, &Selftest::check_all_gather);
  check(*mesh.param, &Selftest::check_reduce_scatter);
  check(*mesh.dp, &Selftest::check_all_reduce);
  check(*mesh.ulysses, &Selftest::check_all_to_all);
  if (!options.rotates) {
    check(*mesh.ring, &Selftest::check_all_gather);
    check(*mesh.ring, &Selftest::check_reduce_scatter);
    return;
  }
  check(*mesh.ring, &Selftest::check_exchange);
  if (options.block && mesh.ring->size() > 1) time_attention(*options.block);
  clear();
}

Tensor Selftest::allocate(Shape shape, DType dtype) {
  const auto bytes = static_cast<std::size_t>(shape.num_elements()) * size_of(dtype);
  memory_.push_back(std::make_unique<DeviceMemory>(rank_.device, bytes));
  return {memory_.back()->data(), dtype, shape};
}

void Selftest::clear() {
  for (const auto& group : {&rank_.mesh.ring, &rank_.mesh.ulysses}) (*group)->release();
  memory_.clear();
}

template <typename Element>
Tensor Selftest::upload(const std::vector<Element>& values) {
  const Tensor tensor = allocate({std::ssize(values)}, dtype_of<Element>);
  rank_.device.copy_to_device(tensor.raw(), values.data(), tensor.bytes(), rank_.compute);
  rank_.compute.synchronise();
  return tensor;
}

Tensor Selftest::upload_values(int rank) {
  std::vector<float> values(static_cast<std::size_t>(options_.num_elements));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = value_of(rank, static_cast<std::int64_t>(i));
  }
  return upload(values);
}

/// Elements that no rank sends: memory may still hold what an earlier check has received.
Tensor Selftest::make_room(std::int64_t num_elements) {
  return upload(std::vector<float>(static_cast<std::size_t>(num_elements), -1));
}

/// True if element i of the fp32 tensor is expected(i), for all i.
template <typename Expected>
bool Selftest::holds(Tensor tensor, Expected&& expected) {
  std::vector<float> values(static_cast<std::size_t>(tensor.num_elements()));
  rank_.device.copy_to_host(values.data(), tensor.raw(), tensor.bytes(), rank_.compute);
  rank_.compute.synchronise();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] != expected(static_cast<std::int64_t>(i))) return false;
  }
  return true;
}

/// Seconds that `work`, which it enqueues on `stream`, takes at best.
template <typename Work>
double Selftest::fastest(Stream& stream, Work&& work) {
  const auto begin = rank_.device.make_timed_event();
  const auto end = rank_.device.make_timed_event();
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < options_.repeats; ++i) {
    stream.record(*begin);
    work();
    stream.record(*end);
    end->synchronise();
    best = std::min(best, end->seconds_since(*begin));
  }
  return best;
}

void Selftest::found(const Communicator& group, const char* operation, bool is_right,
                     double seconds, std::size_t sent, std::string carrier) {
  const double speed = seconds > 0 ? static_cast<double>(sent) / seconds : 0;
  findings_.push_back({group.name(), operation, group.size(), is_right, speed, std::move(carrier)});
}

void Selftest::check_all_reduce(Communicator& group) {
  const Tensor tensor = upload_values(group.rank());
  group.all_reduce(tensor, ReduceOp::kSum, rank_.compute);
  const bool is_right = holds(tensor, [&](std::int64_t i) { return sum_of(group.size(), i); });
  const double seconds =
      fastest(rank_.compute, [&] { group.all_reduce(tensor, ReduceOp::kMax, rank_.compute); });
  found(group, "all_reduce", is_right, seconds,
        sent_bytes("all_reduce", tensor.bytes(), group.size()));
}

void Selftest::check_all_gather(Communicator& group) {
  const std::int64_t part = options_.num_elements / group.size();
  const Tensor shard = upload_values(group.rank()).view(0, {part});
  const Tensor whole = make_room(part * group.size());
  const auto gather = [&] { group.all_gather(shard, whole, rank_.compute); };
  gather();
  const bool is_right =
      holds(whole, [&](std::int64_t i) { return value_of(static_cast<int>(i / part), i % part); });
  found(group, "all_gather", is_right, fastest(rank_.compute, gather),
        sent_bytes("all_gather", whole.bytes(), group.size()));
}

void Selftest::check_reduce_scatter(Communicator& group) {
  const std::int64_t part = options_.num_elements / group.size();
  const Tensor whole = upload_values(group.rank()).view(0, {part * group.size()});
  const Tensor shard = make_room(part);
  const auto reduce = [&] { group.reduce_scatter(whole, shard, ReduceOp::kSum, rank_.compute); };
  reduce();
  const bool is_right =
      holds(shard, [&](std::int64_t i) { return sum_of(group.size(), group.rank() * part + i); });
  found(group, "reduce_scatter", is_right, fastest(rank_.compute, reduce),
        sent_bytes("reduce_scatter", whole.bytes(), group.size()));
}

void Selftest::check_all_to_all(Communicator& group) {
  const std::int64_t part = options_.num_elements / group.size();
  const Tensor sent = upload_values(group.rank()).view(0, {part * group.size()});
  const Tensor received = make_room(sent.num_elements());
  const auto trade = [&] { group.all_to_all(sent, received, rank_.compute); };
  trade();
  const bool is_right = holds(received, [&](std::int64_t i) {
    return value_of(static_cast<int>(i / part), group.rank() * part + i % part);
  });
  found(group, "all_to_all", is_right, fastest(rank_.compute, trade),
        sent_bytes("all_to_all", sent.bytes(), group.size()), group.carrier());
}

void Selftest::check_exchange(Communicator& group) {
  const int next = (group.rank() + 1) % group.size();
  const int previous = (group.rank() + group.size() - 1) % group.size();
  const Tensor sent = upload_values(group.rank());
  const Tensor received = make_room(sent.num_elements());
  const auto hop = [&] {
    group.exchange(std::array{Transfer{sent, next, received, previous}}, rank_.ring);
  };
  hop();
  rank_.ring.synchronise();
  const bool is_right = holds(received, [&](std::int64_t i) { return value_of(previous, i); });
  found(group, "exchange", is_right, fastest(rank_.ring, hop), sent.bytes(), group.carrier());
}

std::size_t Selftest::bytes_of(const AttentionBlock& block) {
  const std::int64_t rows = block.batch * block.layout.group_length();
  const std::int64_t heads = block.heads / block.head_groups;
  const auto element = static_cast<std::int64_t>(size_of(block.dtype));
  const std::int64_t query = rows * heads * block.head_dim;
  const std::int64_t key_value = 2 * rows * block.kv_heads * block.head_dim;
  return static_cast<std::size_t>(2 * (query + key_value) * element + 4 * (query + rows * heads));
}

/// A hop of one layer's keys and values, and the attention step that should hide it: queries of
/// this rank against the keys of the nearest member of the ring before it that they see.
void Selftest::time_attention(const AttentionBlock& block) {
  const std::int64_t tokens = block.layout.group_length();
  const std::int64_t heads = block.heads / block.head_groups;
  const std::int64_t kv_heads = block.kv_heads / block.head_groups;
  const auto zeros = [&](Shape shape, DType dtype) {
    const Tensor tensor = allocate(shape, dtype);
    rank_.ops.fill(tensor, 0, rank_.compute);
    return tensor;
  };
  const Tensor query = zeros({block.batch, tokens, heads, block.head_dim}, block.dtype);
  const Tensor sent = zeros({2, block.batch, tokens, block.kv_heads, block.head_dim}, block.dtype);
  const Tensor received = zeros(sent.shape(), block.dtype);
  const Tensor key_value = sent.view(0, {2, block.batch, tokens, kv_heads, block.head_dim});
  const Tensor partial = zeros(query.shape(), DType::kFloat32);
  const Tensor lse = zeros({block.batch, heads, tokens}, DType::kFloat32);
  const Tensor out = zeros(query.shape(), block.dtype);
  rank_.ops.bind_workspace(
      allocate({static_cast<std::int64_t>(rank_.ops.workspace_bytes()) / 4}, DType::kInt32));
  rank_.compute.synchronise();

  Communicator& ring = *rank_.mesh.ring;
  const int size = ring.size();
  const int next = (ring.rank() + 1) % size;
  const int previous = (ring.rank() + size - 1) % size;
  hop_s_ = fastest(rank_.ring, [&] {
    ring.exchange(std::array{Transfer{sent, next, received, previous}}, rank_.ring);
  });

  int keys = previous;
  while (block.layout.causal_segments(ring.rank(), keys).empty()) keys = (keys + size - 1) % size;
  const auto segments = block.layout.causal_segments(ring.rank(), keys);
  AttentionMask mask{.query_positions = upload(block.layout.group_positions(ring.rank())),
                     .key_positions = upload(block.layout.group_positions(keys)),
                     .lowest_visible = {}};
  if (segments.size() == 1) mask.segment = segments.front();
  AttentionForwardArgs step{
      query, key_value[0], key_value[1], partial,
      lse,   out,          mask,         1.0f / std::sqrt(static_cast<float>(block.head_dim))};
  step.last = false;
  step.query_chunk_size = block.query_chunk_size;
  step.key_chunk_size = block.key_chunk_size;
  const double group_s =
      fastest(rank_.compute, [&] { rank_.ops.attention_forward(step, rank_.compute); });
  block_s_ = static_cast<double>(block.head_groups) * group_s;
}

void Selftest::combine(World& world) {
  std::vector<double> numbers;
  for (const Finding& each : findings_) {
    numbers.insert(numbers.end(), {each.is_right ? 1.0 : 0.0, each.bytes_per_s});
  }
  numbers.insert(numbers.end(), {-hop_s_, block_s_});  // the slowest hop, the fastest block
  const std::size_t bytes = numbers.size() * sizeof(double);
  for (const std::string& packed :
       world.all_gather(std::string(reinterpret_cast<const char*>(numbers.data()), bytes))) {
    std::vector<double> theirs(numbers.size());
    std::memcpy(theirs.data(), packed.data(), bytes);
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = std::min(numbers[i], theirs[i]);
  }
  for (std::size_t i = 0; i < findings_.size(); ++i) {
    findings_[i].is_right = numbers[2 * i] > 0;
    findings_[i].bytes_per_s = numbers[2 * i + 1];
  }
  hop_s_ = -numbers[numbers.size() - 2];
  block_s_ = numbers.back();
}

bool Selftest::passes() const {
  return std::all_of(findings_.begin(), findings_.end(),
                     [](const Finding& each) { return each.is_right; });
}

std::string Selftest::to_table() const {
  std::string table;
  for (const Finding& each : findings_) {
    table += fmt::format("  {:<8} {:>4} ranks  {:<15} {:<6} {:>9.3f} GB/s a rank{}{}\n", each.group,
                         each.num_ranks, each.operation, each.is_right ? "right" : "WRONG",
                         each.bytes_per_s * 1e-9, each.carrier.empty() ? "" : " by ", each.carrier);
  }
  if (block_s_ > 0) {
    table += fmt::format("  ring: hop {:.3f} ms, attention block {:.3f} ms: {}\n", hop_s_ * 1e3,
                         block_s_ * 1e3, hop_s_ <= block_s_ ? "hidden" : "NOT hidden");
  }
  return table;
}

}  // namespace ringtrain
