// Checks the Hopper attention forward against a double-precision reference, then times it.
//   attention_forward_sm90            checks, then times
//   attention_forward_sm90 check      checks only; exit code 1 on a difference
//   attention_forward_sm90 time       times only
// Times: 100 launches to warm up, then the median of 200, random normal data. Floating-point
// operations: 4 B N Tq Tk H, half of it under a causal mask.
#include "ringtrain/kernels/attention_forward_sm90.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "attention_case.h"
#include "attention_reference.h"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"
#include "ringtrain/parallel/sequence_layout.h"

namespace ringtrain::bench {
namespace {

using Launch = kernels::AttentionForwardSm90Args;

Launch launch_args(const Sizes& s) {
  Launch args{};
  args.batch = s.batch;
  args.query_tokens = s.query_tokens;
  args.key_tokens = s.key_tokens;
  args.query_heads = s.query_heads;
  args.kv_heads = s.kv_heads;
  args.head_dim = s.head_dim;
  args.softmax_scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  args.visible = {0, s.query_tokens, 0, s.key_tokens, s.key_tokens};
  args.first = args.last = true;
  return args;
}

int failures = 0;
int cases = 0;
double worst_l2 = 0;

struct Result {
  std::vector<bf16> out;
  std::vector<float> lse;
};

// Rows of `result` compared with the reference under positions (none: all keys visible).
void compare(const std::string& name, const Sizes& s, const Inputs& in, const Result& result,
             const std::vector<std::int32_t>* query_positions,
             const std::vector<std::int32_t>* key_positions) {
  const Buffer<std::int32_t> qp(query_positions ? *query_positions : std::vector<std::int32_t>{});
  const Buffer<std::int32_t> kp(key_positions ? *key_positions : std::vector<std::int32_t>{});
  const Buffer<double> out(s.query_size()), lse(s.rows());
  const Buffer<float> rounded(s.query_size());
  ReferenceArgs args{in.query.get(),
                     in.key.get(),
                     in.value.get(),
                     query_positions ? qp.get() : nullptr,
                     kp.get(),
                     out.get(),
                     lse.get(),
                     rounded.get(),
                     s.batch,
                     s.query_tokens,
                     s.key_tokens,
                     s.query_heads,
                     s.kv_heads,
                     s.head_dim,
                     double(1.0f / std::sqrt(static_cast<float>(s.head_dim)))};
  run_reference(args);
  const std::vector<double> expected = out.host();
  const std::vector<double> expected_lse = lse.host();
  const std::vector<float> rival = rounded.host();
  double square = 0, square_difference = 0, largest = 0, rival_largest = 0;
  std::size_t bad_out = 0, bad_lse = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(double(__bfloat162float(result.out[i])) - expected[i]);
    if (!(difference <= 1e30)) ++bad_out;
    square += expected[i] * expected[i];
    square_difference += difference * difference;
    largest = std::max(largest, difference);
    rival_largest = std::max(rival_largest, std::abs(double(rival[i]) - expected[i]));
  }
  double lse_largest = 0;
  for (std::size_t i = 0; i < expected_lse.size(); ++i) {
    if (std::isinf(expected_lse[i])) {
      if (double(result.lse[i]) != expected_lse[i]) ++bad_lse;
      continue;
    }
    const double difference = std::abs(double(result.lse[i]) - expected_lse[i]);
    if (!(difference <= 2e-4 + 1e-6 * std::abs(expected_lse[i]))) ++bad_lse;
    lse_largest = std::max(lse_largest, difference);
  }
  const double l2 =
      square > 0 ? std::sqrt(square_difference / square) : std::sqrt(square_difference);
  ++cases;
  worst_l2 = std::max(worst_l2, l2);
  const bool ok = bad_out == 0 && bad_lse == 0 && l2 <= 5e-3 && largest <= 2 * rival_largest + 1e-5;
  if (ok) return;
  ++failures;
  if (failures > 25) return;
  fmt::print(
      "FAIL {}: out l2 {:.2e} max {:.2e} (plain bf16 {:.2e}) nan {}; lse bad {} max {:.2e}\n", name,
      l2, largest, rival_largest, bad_out, bad_lse, lse_largest);
}

// Output buffers with a guard row behind them that must stay as it was.
struct Outputs {
  static constexpr std::size_t kGuard = 4096;
  explicit Outputs(const Sizes& s)
      : out(s.query_size() + kGuard), lse(s.rows() + kGuard), partial(s.query_size() + kGuard) {
    out.poison();
    lse.poison();
    partial.poison();
  }
  void bind(Launch& args) const {
    args.out = out.get();
    args.lse = lse.get();
    args.partial = partial.get();
  }
  Result take(const std::string& name, const Sizes& s) const {
    RT_CUDA_CHECK(cudaDeviceSynchronize());
    Result result{out.host(), lse.host()};
    const std::vector<float> state = partial.host();
    const auto untouched = [](const auto* from, std::size_t count) {
      const auto* bytes = reinterpret_cast<const unsigned char*>(from);
      return std::all_of(bytes, bytes + count, [](unsigned char byte) { return byte == 0xFF; });
    };
    if (!untouched(&result.out[s.query_size()], kGuard * sizeof(bf16)) ||
        !untouched(&result.lse[s.rows()], kGuard * sizeof(float)) ||
        !untouched(&state[s.query_size()], kGuard * sizeof(float))) {
      ++failures;
      fmt::print("FAIL {}: wrote behind the end\n", name);
    }
    result.out.resize(s.query_size());
    result.lse.resize(s.rows());
    return result;
  }
  Buffer<bf16> out;
  Buffer<float> lse, partial;
};

Launch bound(const Sizes& s, const Inputs& in, const Outputs& outputs) {
  Launch args = launch_args(s);
  args.query = in.query.get();
  args.key = in.key.get();
  args.value = in.value.get();
  outputs.bind(args);
  return args;
}

// One launch under a mask j <= i + shift, or full.
void check_single(const Sizes& s, const int* shift, float query_scale = 1, float key_scale = 1,
                  int max_blocks = 0) {
  const std::string name = fmt::format("{} {} q*{} k*{} blocks {}", s.name(),
                                       shift ? fmt::format("shift {}", *shift) : "full",
                                       query_scale, key_scale, max_blocks);
  const Inputs in(s, query_scale, key_scale);
  const Outputs outputs(s);
  Launch args = bound(s, in, outputs);
  args.max_blocks = max_blocks;
  if (shift) args.visible.shift = *shift;
  kernels::launch_attention_forward_sm90(args, nullptr);
  const auto query_positions = iota(s.query_tokens, shift ? *shift : 0);
  const auto key_positions = iota(s.key_tokens);
  compare(name, s, in, outputs.take(name, s), shift ? &query_positions : nullptr, &key_positions);
}

// A segment inside a larger step; everything outside it is invisible, and its keys are NaN.
void check_segment(const Sizes& s, const AttentionSegment& visible, int max_blocks) {
  const std::string name =
      fmt::format("{} segment q {}+{} k {}+{} shift {} blocks {}", s.name(), visible.q0, visible.qn,
                  visible.k0, visible.kn, visible.shift, max_blocks);
  const Inputs in(s);
  const Inputs poisoned(s);
  const std::size_t row = std::size_t(s.kv_heads) * s.head_dim;
  for (int b = 0; b < s.batch; ++b) {
    for (const Buffer<bf16>* keys : {&poisoned.key, &poisoned.value}) {
      bf16* base = keys->get() + std::size_t(b) * s.key_tokens * row;
      const std::size_t end = std::size_t(visible.k0 + visible.kn);
      RT_CUDA_CHECK(cudaMemset(base, 0xFF, std::size_t(visible.k0) * row * 2));
      RT_CUDA_CHECK(
          cudaMemset(base + end * row, 0xFF, (std::size_t(s.key_tokens) - end) * row * 2));
    }
  }
  const Outputs outputs(s);
  Launch args = bound(s, poisoned, outputs);
  args.visible = visible;
  args.max_blocks = max_blocks;
  kernels::launch_attention_forward_sm90(args, nullptr);
  std::vector<std::int32_t> query_positions(std::size_t(s.query_tokens), -1);
  std::vector<std::int32_t> key_positions(std::size_t(s.key_tokens), 1 << 30);
  for (std::int64_t i = 0; i < visible.qn; ++i) {
    query_positions[std::size_t(visible.q0 + i)] = static_cast<std::int32_t>(i + visible.shift);
  }
  for (std::int64_t j = 0; j < visible.kn; ++j) {
    key_positions[std::size_t(visible.k0 + j)] = static_cast<std::int32_t>(j);
  }
  compare(name, s, in, outputs.take(name, s), &query_positions, &key_positions);
}

// All ring steps of every rank against attention over the whole sequence. Masked steps are
// launched too: they must change nothing.
void check_ring(LayoutKind kind, int ranks, const Sizes& local, int max_blocks,
                float key_growth = 1) {
  const SequenceLayout layout(kind, std::int64_t{local.query_tokens} * ranks, ranks);
  Sizes whole = local;
  whole.key_tokens = local.query_tokens * ranks;
  std::vector<std::int32_t> key_positions;
  const Inputs all(whole);
  // The whole sequence in the order of the ranks, so that a rank's keys are rows of it.
  const std::size_t row = std::size_t(local.kv_heads) * local.head_dim;
  const std::size_t block_size = std::size_t(local.query_tokens) * row;
  for (int r = 0; r < ranks; ++r) {
    const auto positions = layout.positions(r);
    key_positions.insert(key_positions.end(), positions.begin(), positions.end());
  }
  if (key_growth != 1) {  // later ranks' keys are larger: lse moves by hundreds between steps
    std::vector<bf16> keys = all.key.host();
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const auto r = i % (block_size * std::size_t(ranks)) / block_size;
      keys[i] = __float2bfloat16_rn(__bfloat162float(keys[i]) *
                                    std::pow(key_growth, static_cast<float>(r)));
    }
    RT_CUDA_CHECK(cudaMemcpy(all.key.get(), keys.data(), keys.size() * 2, cudaMemcpyHostToDevice));
  }
  for (int q = 0; q < ranks; ++q) {
    const std::string name =
        fmt::format("{} layout {} rank {} of {} growth {} blocks {}", local.name(),
                    static_cast<int>(kind), q, ranks, key_growth, max_blocks);
    const Outputs outputs(local);
    Buffer<bf16> key(local.key_size()), value(local.key_size());
    for (int step = 0; step < ranks; ++step) {
      const int r = (q - step + ranks) % ranks;
      for (int b = 0; b < local.batch; ++b) {
        const std::size_t from = (std::size_t(b) * ranks + std::size_t(r)) * block_size;
        RT_CUDA_CHECK(cudaMemcpy(key.get() + std::size_t(b) * block_size, all.key.get() + from,
                                 block_size * 2, cudaMemcpyDeviceToDevice));
        RT_CUDA_CHECK(cudaMemcpy(value.get() + std::size_t(b) * block_size, all.value.get() + from,
                                 block_size * 2, cudaMemcpyDeviceToDevice));
      }
      Launch args = bound(local, all, outputs);
      args.key = key.get();
      args.value = value.get();
      const auto segments = layout.causal_segments(q, r);
      args.visible = segments.empty() ? AttentionSegment{0, 0, 0, 0, 0} : segments.at(0);
      args.first = step == 0;
      args.last = step == ranks - 1;
      args.max_blocks = max_blocks;
      kernels::launch_attention_forward_sm90(args, nullptr);
      RT_CUDA_CHECK(cudaDeviceSynchronize());
    }
    const auto query_positions = layout.positions(q);
    compare(name, whole, all, outputs.take(name, local), &query_positions, &key_positions);
  }
}

// Equal inputs give equal bits, from run to run and for every number of blocks.
void check_repeat(const Sizes& s, int runs) {
  const Inputs in(s);
  const Outputs first(s);
  Launch args = bound(s, in, first);
  args.visible.shift = 0;
  kernels::launch_attention_forward_sm90(args, nullptr);
  const Result expected = first.take("repeat", s);
  int different = 0;
  for (int run = 0; run < runs; ++run) {
    const Outputs again(s);
    args = bound(s, in, again);
    args.visible.shift = 0;
    args.max_blocks = run % 7 == 3 ? 1 + run : 0;
    kernels::launch_attention_forward_sm90(args, nullptr);
    const Result result = again.take("repeat", s);
    if (std::memcmp(result.out.data(), expected.out.data(), result.out.size() * 2) != 0 ||
        std::memcmp(result.lse.data(), expected.lse.data(), result.lse.size() * 4) != 0) {
      ++different;
    }
  }
  ++cases;
  if (different == 0) return;
  ++failures;
  fmt::print("FAIL repeat {}: {} of {} runs differ\n", s.name(), different, runs);
}

// Steps of parts of the heads, one with state and one without, on two streams at once.
void check_heads(const Sizes& s) {
  const Inputs in(s);
  const Outputs outputs(s);
  const int group = s.query_heads / s.kv_heads;
  const int first = s.kv_heads / 2 * group;
  cudaStream_t streams[2];
  for (auto& stream : streams) {
    RT_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  RT_CUDA_CHECK(cudaDeviceSynchronize());
  for (int step = 0; step < 2; ++step) {
    for (const int part : {0, 1}) {
      Launch args = bound(s, in, outputs);
      args.visible = {0, s.query_tokens, step * s.key_tokens / 2, s.key_tokens / 2, s.key_tokens};
      args.first = step == 0;
      args.last = step == 1;
      args.first_head = part * first;
      args.num_heads = part == 0 ? first : s.query_heads - first;
      kernels::launch_attention_forward_sm90(args, streams[part]);
    }
  }
  RT_CUDA_CHECK(cudaDeviceSynchronize());
  for (auto& stream : streams) RT_CUDA_CHECK(cudaStreamDestroy(stream));
  const auto positions = iota(s.key_tokens);
  const std::string name = fmt::format("{} parts of heads", s.name());
  compare(name, s, in, outputs.take(name, s), nullptr, &positions);
}

void check_head_dim(int h) {
  const int causal = 0;
  const int steps[] = {1, 63, 64, 65, 127, 128, 129, 191, 193, 200, 385, 1000};
  for (const int t : steps) {
    check_single({1, t, t, 3, 1, h}, &causal);
    check_single({2, t, t, 4, 2, h}, nullptr);
  }
  check_single({1, 4113, 4113, 2, 1, h}, &causal);
  check_single({1, 4113, 4113, 1, 1, h}, nullptr);
  check_single({1, 2500, 2500, 8, 8, h}, &causal, 1, 1, 1);
  for (const int group : {1, 2, 7, 8}) check_single({3, 333, 333, group * 3, 3, h}, &causal);
  check_single({2, 200, 1000, 3, 3, h}, nullptr);
  check_single({2, 1000, 200, 3, 3, h}, nullptr);
  check_single({1, 512, 512, 2, 1, h}, &causal, 100.0f, 100.0f);  // one key dominates
  check_single({1, 512, 512, 2, 1, h}, &causal, 0.0f);            // equal scores
  check_single({1, 512, 512, 2, 1, h}, nullptr, 1.0f, 0.0f);      // K = 0
  for (const int max_blocks : {0, 1, 3}) {  // few blocks: items follow each other
    for (const int shift : {-1, -128, -150, -999, -1000, 5, 127, 800}) {
      check_single({1, 1000, 1000, 2, 1, h}, &shift, 1, 1, max_blocks);
    }
    check_single({2, 600, 600, 2, 1, h}, nullptr, 1, 1, max_blocks);
    check_segment({2, 600, 600, 2, 1, h}, {300, 300, 0, 600, 600}, max_blocks);
    check_segment({2, 600, 600, 2, 2, h}, {0, 600, 0, 300, 300}, max_blocks);
    check_segment({2, 600, 600, 2, 2, h}, {131, 257, 77, 333, 12}, max_blocks);
    check_segment({1, 600, 600, 2, 2, h}, {0, 600, 599, 1, 1}, max_blocks);
    for (const int ranks : {2, 3, 4, 8}) {
      for (const LayoutKind kind :
           {LayoutKind::kContiguous, LayoutKind::kStriped, LayoutKind::kZigzag}) {
        check_ring(kind, ranks, {2, 150, 150, 2, 1, h}, max_blocks);
      }
    }
    check_ring(LayoutKind::kZigzag, 4, {1, 512, 512, 4, 2, h}, max_blocks);
    check_ring(LayoutKind::kStriped, 4, {1, 200, 200, 2, 2, h}, max_blocks, 6.0f);
  }
  check_repeat({2, 1500, 1500, 6, 3, h}, 100);
  check_heads({2, 1000, 1000, 6, 3, h});
  check_heads({1, 4096, 4096, 16, 16, h});
}

void time_shape(const Sizes& s, bool causal, bool resumes) {
  const Inputs in(s);
  const Outputs outputs(s);
  Launch args = bound(s, in, outputs);
  if (causal) args.visible.shift = 0;
  if (resumes) {
    args.last = false;
    kernels::launch_attention_forward_sm90(args, nullptr);
    args.first = false;
  }
  const float ms =
      median_ms([&] { kernels::launch_attention_forward_sm90(args, nullptr); }, 100, 200);
  const double flops = 4.0 * s.batch * s.query_heads * double(s.query_tokens) * s.key_tokens *
                       s.head_dim * (causal ? 0.5 : 1.0);
  fmt::print("{:<34} {:<6} {:<6} {:8.3f} ms {:6.0f} TFLOP/s\n", s.name(),
             causal ? "causal" : "full", resumes ? "resume" : "fresh", ms, flops / ms * 1e-9);
}

void time_all() {
  for (const bool causal : {true, false}) {
    time_shape({4, 4096, 4096, 16, 16, 128}, causal, false);
    time_shape({1, 16384, 16384, 16, 16, 128}, causal, false);
    time_shape({4, 4096, 4096, 32, 32, 64}, causal, false);
    time_shape({1, 16384, 16384, 32, 32, 64}, causal, false);
  }
  time_shape({1, 16384, 16384, 16, 2, 128}, true, false);
  time_shape({1, 8192, 8192, 16, 16, 128}, false, false);
  time_shape({1, 8192, 8192, 16, 16, 128}, false, true);
}

int run(const std::string& what) {
  if (what != "time") {
    for (const int head_dim : {128, 64, 80, 32}) check_head_dim(head_dim);
    fmt::print("{} cases, {} failures, worst relative l2 {:.2e}\n", cases, failures, worst_l2);
  }
  if (what != "check") time_all();
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ringtrain::bench

int main(int argc, char** argv) {
  try {
    return ringtrain::bench::run(argc > 1 ? argv[1] : "");
  } catch (const ringtrain::Error& error) {
    fmt::print(stderr, "attention_forward_sm90: {}\n", error.what());
    return error.exit_code();
  }
}
