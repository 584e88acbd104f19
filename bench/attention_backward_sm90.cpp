// Checks the Hopper attention backward against a double-precision reference, then times it.
//   bench_attention_backward_sm90            checks, then times
//   bench_attention_backward_sm90 check      checks only; exit code 1 on a difference
//   bench_attention_backward_sm90 time       times only
// Times: 50 launches to warm up, then the median of 100, random normal data. Floating-point
// operations: 10 B N Tq Tk H, half of it under a causal mask.
#include "ringtrain/kernels/attention_backward_sm90.h"

#include <cmath>
#include <cstring>

#include "attention_case.h"
#include "attention_reference.h"
#include "ringtrain/core/error.h"
#include "ringtrain/parallel/sequence_layout.h"

namespace ringtrain::bench {
namespace {

using Launch = kernels::AttentionBackwardSm90Args;

int failures = 0;
int cases = 0;
double worst_l2 = 0;

struct Gradients {
  explicit Gradients(const Sizes& s)
      : dquery(s.query_size()), dkey(s.key_size()), dvalue(s.key_size()) {
    for (const Buffer<float>* part : {&dquery, &dkey, &dvalue}) {
      RT_CUDA_CHECK(cudaMemset(part->get(), 0, part->size() * sizeof(float)));
    }
  }
  Buffer<float> dquery, dkey, dvalue;
};

struct Statistics {
  explicit Statistics(const Sizes& s) : lse(s.rows()), delta(s.rows()) {}
  Buffer<float> lse, delta;
};

struct Reference {
  std::vector<double> dquery, dkey, dvalue;
};

Reference reference(const Sizes& s, const Inputs& in, const Buffer<bf16>& dout,
                    const Statistics& statistics, const std::vector<std::int32_t>* query_positions,
                    const std::vector<std::int32_t>* key_positions) {
  const Buffer<std::int32_t> qp(query_positions ? *query_positions : std::vector<std::int32_t>{});
  const Buffer<std::int32_t> kp(key_positions ? *key_positions : std::vector<std::int32_t>{});
  const Buffer<double> out(s.query_size()), lse(s.rows());
  const Buffer<float> rounded(s.query_size());
  const Buffer<double> dquery(s.query_size()), dkey(s.key_size()), dvalue(s.key_size());
  RT_CUDA_CHECK(cudaMemset(dkey.get(), 0, dkey.size() * sizeof(double)));
  RT_CUDA_CHECK(cudaMemset(dvalue.get(), 0, dvalue.size() * sizeof(double)));
  const ReferenceArgs forward{in.query.get(),
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
  run_reference(forward);
  run_reference_backward({forward, dout.get(), statistics.lse.get(), statistics.delta.get(),
                          dquery.get(), dkey.get(), dvalue.get()});
  return {dquery.host(), dkey.host(), dvalue.host()};
}

void compare(const std::string& name, const Reference& expected, const Gradients& actual) {
  ++cases;
  const auto l2 = [](const std::vector<double>& x, const std::vector<float>& y) {
    double square = 0, difference = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      square += x[i] * x[i];
      difference += (x[i] - double(y[i])) * (x[i] - double(y[i]));
    }
    // A gradient that is nothing but cancellation, such as dquery of a single key, is absolute.
    return std::sqrt(difference / std::max(square, 1e-2 * static_cast<double>(x.size())));
  };
  const double dquery = l2(expected.dquery, actual.dquery.host());
  const double dkey = l2(expected.dkey, actual.dkey.host());
  const double dvalue = l2(expected.dvalue, actual.dvalue.host());
  if (dquery <= 5e-3 && dkey <= 5e-3 && dvalue <= 5e-3) {  // false for NaN, as max would not be
    worst_l2 = std::max({worst_l2, dquery, dkey, dvalue});
    return;
  }
  ++failures;
  if (failures > 25) return;
  fmt::print("FAIL {}: relative l2 dquery {:.2e} dkey {:.2e} dvalue {:.2e}\n", name, dquery, dkey,
             dvalue);
}

Launch bound(const Sizes& s, const Inputs& in, const Buffer<bf16>& dout,
             const Statistics& statistics, const Gradients& gradients) {
  Launch args{};
  args.query = in.query.get();
  args.key = in.key.get();
  args.value = in.value.get();
  args.dout = dout.get();
  args.lse = statistics.lse.get();
  args.delta = statistics.delta.get();
  args.dquery = gradients.dquery.get();
  args.dkey = gradients.dkey.get();
  args.dvalue = gradients.dvalue.get();
  args.batch = s.batch;
  args.query_tokens = s.query_tokens;
  args.key_tokens = s.key_tokens;
  args.query_heads = s.query_heads;
  args.kv_heads = s.kv_heads;
  args.head_dim = s.head_dim;
  args.softmax_scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  args.visible = {0, s.query_tokens, 0, s.key_tokens, s.key_tokens};
  return args;
}

// Both orders of summation under one segment, and gradients of keys that are added to or written
// over NaN; every key outside the segment is invisible.
void check_segment(const Sizes& s, const AttentionSegment& visible, float scale = 1) {
  const std::string name =
      fmt::format("{} segment q {}+{} k {}+{} shift {} scale {}", s.name(), visible.q0, visible.qn,
                  visible.k0, visible.kn, visible.shift, scale);
  const Inputs in(s, scale, scale);
  Buffer<bf16> dout(s.query_size());
  fill(dout, 4);
  std::vector<std::int32_t> query_positions(std::size_t(s.query_tokens), -1);
  std::vector<std::int32_t> key_positions(std::size_t(s.key_tokens), 1 << 30);
  for (std::int64_t i = 0; i < visible.qn; ++i) {
    query_positions[std::size_t(visible.q0 + i)] = static_cast<std::int32_t>(i + visible.shift);
  }
  for (std::int64_t j = 0; j < visible.kn; ++j) {
    key_positions[std::size_t(visible.k0 + j)] = static_cast<std::int32_t>(j);
  }
  const Statistics statistics(s);
  const Reference expected = reference(s, in, dout, statistics, &query_positions, &key_positions);
  for (const bool ordered : {false, true}) {
    for (const bool overwrites : {false, true}) {
      Gradients actual(s);
      Launch args = bound(s, in, dout, statistics, actual);
      args.visible = visible;
      if (overwrites) {
        args.key_gradient = kernels::KeyGradient::kWrite;
        actual.dkey.poison();
        actual.dvalue.poison();
      }
      const Buffer<char> scratch(kernels::attention_backward_sm90_scratch_bytes(args));
      if (ordered) args.scratch = scratch.get();
      kernels::launch_attention_backward_sm90(args, nullptr);
      RT_CUDA_CHECK(cudaDeviceSynchronize());
      compare(name + (ordered ? " ordered" : "") + (overwrites ? " overwrites" : ""), expected,
              actual);
    }
  }
}

void check_causal(const Sizes& s, float scale = 1) {
  check_segment(s, {0, s.query_tokens, 0, s.key_tokens, 0}, scale);
}

void check_full(const Sizes& s) {
  check_segment(s, {0, s.query_tokens, 0, s.key_tokens, s.key_tokens});
}

// The steps of one rank: dquery sums over them, each block of keys has gradients of its own.
void check_ring(LayoutKind kind, int ranks, const Sizes& local) {
  const SequenceLayout layout(kind, std::int64_t{local.query_tokens} * ranks, ranks);
  Sizes whole = local;
  whole.key_tokens = local.query_tokens * ranks;
  std::vector<std::int32_t> key_positions;
  for (int r = 0; r < ranks; ++r) {
    const auto positions = layout.positions(r);
    key_positions.insert(key_positions.end(), positions.begin(), positions.end());
  }
  const Inputs all(whole);
  Buffer<bf16> dout(whole.query_size());
  fill(dout, 4);
  for (int q = 0; q < ranks; ++q) {
    const auto query_positions = layout.positions(q);
    const Statistics statistics(whole);
    const Reference expected =
        reference(whole, all, dout, statistics, &query_positions, &key_positions);
    const Gradients actual(whole);
    for (int r = 0; r < ranks; ++r) {
      const std::size_t from = std::size_t(r) * local.key_size();
      Launch args = bound(local, all, dout, statistics, actual);
      args.key = all.key.get() + from;
      args.value = all.value.get() + from;
      args.dkey = actual.dkey.get() + from;
      args.dvalue = actual.dvalue.get() + from;
      const auto segments = layout.causal_segments(q, r);
      args.visible = segments.empty() ? AttentionSegment{0, 0, 0, 0, 0} : segments.at(0);
      kernels::launch_attention_backward_sm90(args, nullptr);
    }
    RT_CUDA_CHECK(cudaDeviceSynchronize());
    compare(
        fmt::format("{} layout {} rank {} of {}", local.name(), static_cast<int>(kind), q, ranks),
        expected, actual);
  }
}

// Ordered sums give equal bits from run to run.
void check_repeat(const Sizes& s, int runs) {
  const Inputs in(s);
  Buffer<bf16> dout(s.query_size());
  fill(dout, 4);
  const Statistics statistics(s);
  const auto query_positions = iota(s.query_tokens);
  const auto key_positions = iota(s.key_tokens);
  reference(s, in, dout, statistics, &query_positions, &key_positions);
  std::vector<std::vector<float>> expected;
  int different = 0;
  for (int run = 0; run < runs; ++run) {
    const Gradients actual(s);
    Launch args = bound(s, in, dout, statistics, actual);
    args.visible.shift = 0;
    const Buffer<char> scratch(kernels::attention_backward_sm90_scratch_bytes(args));
    args.scratch = scratch.get();
    kernels::launch_attention_backward_sm90(args, nullptr);
    RT_CUDA_CHECK(cudaDeviceSynchronize());
    const std::vector<std::vector<float>> result{actual.dquery.host(), actual.dkey.host(),
                                                 actual.dvalue.host()};
    if (run == 0) expected = result;
    for (std::size_t i = 0; i < result.size(); ++i) {
      if (std::memcmp(result[i].data(), expected[i].data(), result[i].size() * 4) != 0) ++different;
    }
  }
  ++cases;
  if (different == 0) return;
  ++failures;
  fmt::print("FAIL repeat {}: {} of {} results differ\n", s.name(), different, 3 * runs);
}

void check_head_dim(int h) {
  for (const int t : {1, 63, 64, 65, 127, 128, 129, 200, 1000}) {
    check_causal({1, t, t, 3, 1, h});
    check_full({2, t, t, 4, 2, h});
  }
  check_causal({1, 2065, 2065, 2, 1, h});
  for (const int group : {1, 2, 7, 8}) check_causal({3, 333, 333, group * 3, 3, h});
  check_full({2, 200, 1000, 3, 3, h});
  check_full({2, 1000, 200, 3, 3, h});
  for (const int shift : {-1, -128, -150, -999, -1000, 5, 127, 800}) {
    check_segment({1, 1000, 1000, 2, 1, h}, {0, 1000, 0, 1000, shift});
  }
  check_segment({2, 600, 600, 2, 1, h}, {300, 300, 0, 600, 600});
  check_segment({2, 600, 600, 2, 2, h}, {0, 600, 0, 300, 300});
  check_segment({2, 600, 600, 2, 2, h}, {131, 257, 77, 333, 12});
  check_segment({1, 600, 600, 2, 2, h}, {0, 600, 599, 1, 1});
  check_causal({1, 512, 512, 2, 1, h}, 3.0f);  // sharp weights
  check_causal({1, 512, 512, 2, 1, h}, 0.0f);  // equal weights
  for (const int ranks : {2, 3, 4, 8}) {
    for (const LayoutKind kind :
         {LayoutKind::kContiguous, LayoutKind::kStriped, LayoutKind::kZigzag}) {
      check_ring(kind, ranks, {1, 150, 150, 2, 1, h});
    }
  }
  check_repeat({2, 1500, 1500, 6, 3, h}, 50);
}

void time_shape(const Sizes& s, bool causal, bool ordered) {
  const Inputs in(s);
  Buffer<bf16> dout(s.query_size());
  fill(dout, 4);
  const Statistics statistics(s);  // as of scores near 0: the time does not depend on them
  const std::vector<float> lse(s.rows(), std::log(static_cast<float>(s.key_tokens)));
  RT_CUDA_CHECK(
      cudaMemcpy(statistics.lse.get(), lse.data(), lse.size() * 4, cudaMemcpyHostToDevice));
  RT_CUDA_CHECK(cudaMemset(statistics.delta.get(), 0, s.rows() * 4));
  const Gradients gradients(s);
  Launch args = bound(s, in, dout, statistics, gradients);
  args.key_gradient = kernels::KeyGradient::kWrite;
  if (causal) args.visible.shift = 0;
  const Buffer<char> scratch(kernels::attention_backward_sm90_scratch_bytes(args));
  if (ordered) args.scratch = scratch.get();
  const float ms =
      median_ms([&] { kernels::launch_attention_backward_sm90(args, nullptr); }, 50, 100);
  const double flops = 10.0 * s.batch * s.query_heads * double(s.query_tokens) * s.key_tokens *
                       s.head_dim * (causal ? 0.5 : 1.0);
  fmt::print("{:<34} {:<6} {:<8} {:8.3f} ms {:6.0f} TFLOP/s\n", s.name(),
             causal ? "causal" : "full", ordered ? "ordered" : "any", ms, flops / ms * 1e-9);
}

void time_all() {
  for (const bool ordered : {false, true}) {
    time_shape({4, 4096, 4096, 16, 16, 128}, true, ordered);
    time_shape({1, 16384, 16384, 16, 16, 128}, true, ordered);
    time_shape({4, 4096, 4096, 32, 32, 64}, true, ordered);
    time_shape({1, 16384, 16384, 32, 32, 64}, true, ordered);
  }
  time_shape({1, 16384, 16384, 16, 16, 128}, false, false);
  time_shape({1, 16384, 16384, 16, 2, 128}, true, false);
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
    fmt::print(stderr, "attention_backward_sm90: {}\n", error.what());
    return error.exit_code();
  }
}
