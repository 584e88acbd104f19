#include "ringtrain/bench/attention_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "ringtrain/bench/timing.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr std::array kPassNames{std::pair{AttentionPass::kForward, "forward"},
                                std::pair{AttentionPass::kBackward, "backward"},
                                std::pair{AttentionPass::kBackwardStep, "backward_step"}};

void check(const AttentionBenchCase& what) {
  for (const std::int64_t size :
       {what.head_dim, what.heads, what.kv_heads, what.seq_length, what.batch}) {
    if (size < 1)
      throw InvalidArgument(fmt::format("sizes of attention must be at least 1, got {}", size));
  }
  if (what.heads % what.kv_heads != 0) {
    throw InvalidArgument(
        fmt::format("kv_heads {} does not divide heads {}", what.kv_heads, what.heads));
  }
}

/// One case and its tensors.
class AttentionBench {
 public:
  AttentionBench(Device& device, Backend& ops, DType compute, const AttentionBenchCase& what)
      : ops_(ops), what_(what), tensors_(device, ops) {
    const auto allocate = [&](Shape shape, DType dtype) { return tensors_.allocate(shape, dtype); };
    const auto random = [&](Shape shape, std::uint64_t key) {
      return tensors_.random(shape, compute, key);
    };
    const Shape queries{what.batch, what.seq_length, what.heads, what.head_dim};
    const Shape keys{what.batch, what.seq_length, what.kv_heads, what.head_dim};
    const Shape rows{what.batch, what.heads, what.seq_length};
    query_ = random(queries, 1);
    key_ = random(keys, 2);
    value_ = random(keys, 3);
    out_ = allocate(queries, compute);
    lse_ = allocate(rows, DType::kFloat32);
    std::vector<std::int32_t> positions(static_cast<std::size_t>(what.seq_length));
    std::iota(positions.begin(), positions.end(), 0);
    positions_ = tensors_.upload(positions, {what.seq_length}, DType::kInt32);
    if (what.pass == AttentionPass::kForward) return;
    dout_ = random(queries, 4);
    delta_ = allocate(rows, DType::kFloat32);
    dquery_ = allocate(queries, DType::kFloat32);
    const bool is_whole = what.pass == AttentionPass::kBackward;
    const bool has_own_keys = what.heads == what.kv_heads;
    const DType key_type = is_whole && has_own_keys ? compute : DType::kFloat32;
    dkey_ = allocate(keys, key_type);
    dvalue_ = allocate(keys, key_type);
    forward();
    ops_.attention_delta({out_, dout_, delta_}, stream());
    ops_.fill(dquery_, 0, stream());
    if (!is_whole) return;
    rounded_query_ = allocate(queries, compute);
    if (has_own_keys) return;
    rounded_key_ = allocate(keys, compute);
    rounded_value_ = allocate(keys, compute);
  }

  Stream& stream() { return tensors_.stream(); }

  void run() {
    switch (what_.pass) {
      case AttentionPass::kForward:
        return forward();
      case AttentionPass::kBackwardStep:
        return backward_step();
      case AttentionPass::kBackward:
        ops_.attention_delta({out_, dout_, delta_}, stream());
        ops_.fill(dquery_, 0, stream());
        backward_step();
        ops_.cast(dquery_, rounded_query_, stream());
        if (!rounded_key_) return;
        ops_.cast(dkey_, rounded_key_, stream());
        ops_.cast(dvalue_, rounded_value_, stream());
    }
  }

 private:
  AttentionMask mask() const {
    AttentionMask mask{.query_positions = positions_,
                       .key_positions = positions_,
                       .lowest_visible = {},
                       .causal = what_.causal,
                       .segment = {}};
    if (what_.causal) mask.segment = AttentionSegment{0, what_.seq_length, 0, what_.seq_length, 0};
    return mask;
  }
  float softmax_scale() const { return 1.0f / std::sqrt(static_cast<float>(what_.head_dim)); }

  void forward() {
    ops_.attention_forward({query_, key_, value_, {}, lse_, out_, mask(), softmax_scale()},
                           stream());
  }
  void backward_step() {
    AttentionBackwardArgs args{query_,  key_,  value_,  dout_,  lse_,           delta_,
                               dquery_, dkey_, dvalue_, mask(), softmax_scale()};
    args.overwrite_key_value = true;
    ops_.attention_backward(args, stream());
  }

  Backend& ops_;
  AttentionBenchCase what_;
  BenchTensors tensors_;
  Tensor query_, key_, value_, out_, lse_, positions_;
  Tensor dout_, delta_, dquery_, dkey_, dvalue_;
  Tensor rounded_query_, rounded_key_, rounded_value_;
};

}  // namespace

std::string_view name_of(AttentionPass pass) {
  return std::find_if(kPassNames.begin(), kPassNames.end(),
                      [&](const auto& each) { return each.first == pass; })
      ->second;
}

AttentionPass parse_attention_pass(std::string_view name) {
  for (const auto& [pass, its_name] : kPassNames) {
    if (name == its_name) return pass;
  }
  throw InvalidArgument(fmt::format("'{}' is none of forward, backward and backward_step", name));
}

double AttentionBenchCase::flops() const {
  const auto product = [](auto... sizes) { return (1.0 * ... * static_cast<double>(sizes)); };
  return product(batch, heads, seq_length, seq_length, head_dim) * 4 * (causal ? 0.5 : 1.0) *
         (pass == AttentionPass::kForward ? 1.0 : 2.5);
}

std::vector<AttentionBenchCase> standard_attention_cases() {
  std::vector<AttentionBenchCase> cases;
  const auto add = [&](AttentionBenchCase what) {
    for (const auto& [pass, name] : kPassNames) {
      what.pass = pass;
      cases.push_back(what);
    }
  };
  for (const bool causal : {true, false}) {
    for (const std::int64_t head_dim : {128, 64}) {
      for (const std::int64_t tokens : {4096, 16384, 32768}) {
        const std::int64_t heads = 2048 / head_dim;
        add({head_dim, heads, heads, tokens, tokens == 4096 ? 4 : 1, causal});
      }
    }
  }
  add({128, 16, 2, 16384, 1, true});
  return cases;
}

double time_attention(Device& device, Backend& ops, DType compute, const AttentionBenchCase& what,
                      int warmups, int runs) {
  check(what);
  AttentionBench bench(device, ops, compute, what);
  return median_ms(device, bench.stream(), warmups, runs, [&] { bench.run(); });
}

}  // namespace ringtrain
