// What the ranks of an emulated ring compute together, against unsplit attention.
#include <algorithm>
#include <cmath>
#include <vector>

#include "emulated_rank.h"
#include "ringtrain/bench/ring_bench.h"

namespace ringtrain {
namespace {

/// Rows of the whole sequence that a rank holds, as runs of neighbours.
struct Run {
  std::int64_t local, global, tokens;
};

std::vector<Run> runs_of(const std::vector<std::int32_t>& positions) {
  std::vector<Run> runs;
  for (std::int64_t i = 0; i < std::ssize(positions); ++i) {
    const std::int64_t position = positions[static_cast<std::size_t>(i)];
    if (!runs.empty() && runs.back().global + runs.back().tokens == position) {
      ++runs.back().tokens;
    } else {
      runs.push_back({i, position, 1});
    }
  }
  return runs;
}

class RingChecker {
 public:
  RingChecker(Device& device, Backend& ops, DType compute, const RingBenchCase& what)
      : device_(device),
        ops_(ops),
        compute_(compute),
        what_(what),
        copier_(make_paced_copier(device, what.link)),
        truth_(device, ops, DType::kFloat32, what.unsplit()),
        whole_(device, ops, compute, what.unsplit()),
        gathered_(device, ops, compute, what.unsplit()),
        sent_(static_cast<std::size_t>(what.num_ranks)) {
    whole_.attention().draw_inputs();
    const auto as_input = [&](const Tensor& drawn, const Tensor& input) {
      ops.cast(drawn, input, whole_.compute());
    };
    as_input(whole_.attention().query, truth_.attention().query);
    as_input(whole_.attention().key_value, truth_.attention().key_value);
    as_input(whole_.attention().dout, truth_.attention().dout);
    whole_.compute().synchronise();
    for (EmulatedRank* each : {&truth_, &whole_}) {
      each->attention().forward();
      each->attention().backward();
      each->compute().synchronise();  // the two share a workspace
    }
  }

  RingCheck run() {
    // A rank replays what the one before it has sent in this round, and rank 0 what the last one
    // has sent in the round before: keys and values are right from the second round on, and
    // gradients, which need the finished forward pass of every rank, from the third.
    constexpr int kRounds = 3;
    for (int round = 0; round < kRounds; ++round) {
      for (int r = 0; r < what_.num_ranks; ++r) run_rank(r, round + 1 == kRounds);
    }
    RingCheck check;
    check.ring = errors_of(gathered_.attention());
    check.unsplit = errors_of(whole_.attention());
    const auto tolerance = [](double unsplit) { return std::max(1e-5, 1.5 * unsplit); };
    check.tolerance = {tolerance(check.unsplit.out), tolerance(check.unsplit.dquery),
                       tolerance(check.unsplit.dkey_value)};
    if (what_.gradient_dtype == DType::kBFloat16) {
      constexpr double kHalfUlp = 1.0 / 512;
      check.tolerance.dkey_value += kHalfUlp * std::sqrt(what_.num_ranks);
    }
    return check;
  }

 private:
  void run_rank(int r, bool gathers) {
    RingBenchCase what = what_;
    what.rank = r;
    EmulatedRank rank(device_, ops_, compute_, what);
    rank.link().carry_by(copier_.get());
    const int previous = (r + what.num_ranks - 1) % what.num_ranks;
    rank.link().replay(&sent_[static_cast<std::size_t>(previous)],
                       &sent_[static_cast<std::size_t>(r)]);
    RankAttention& attention = rank.attention();
    const std::vector<Run> runs = runs_of(what.sequence_layout().positions(r));
    const auto copy = [&](Tensor part, Tensor whole, bool into_whole) {
      copy_rows(runs, part, whole, into_whole, rank.compute());
    };
    copy(attention.query, whole_.attention().query, false);
    copy(attention.key_value, whole_.attention().key_value, false);
    copy(attention.dout, whole_.attention().dout, false);
    attention.forward();
    attention.backward();
    if (gathers) {
      copy(attention.out, gathered_.attention().out, true);
      copy(attention.dquery, gathered_.attention().dquery, true);
      copy(attention.dkey_value, gathered_.attention().dkey_value, true);
    }
    rank.compute().synchronise();
  }

  /// Between [..., tokens of a rank, heads, head_dim] and [..., tokens of all, heads, head_dim].
  void copy_rows(const std::vector<Run>& runs, Tensor part, Tensor whole, bool into_whole,
                 Stream& stream) {
    const std::size_t row =
        static_cast<std::size_t>(part.size(-1) * part.size(-2)) * size_of(part.dtype());
    const std::int64_t outer =
        part.num_elements() / (part.size(-1) * part.size(-2) * part.size(-3));
    for (std::int64_t b = 0; b < outer; ++b) {
      for (const Run& run : runs) {
        const auto at = [&](const Tensor& tensor, std::int64_t token) {
          return static_cast<char*>(tensor.raw()) +
                 static_cast<std::size_t>(b * tensor.size(-3) + token) * row;
        };
        char* const local = at(part, run.local);
        char* const global = at(whole, run.global);
        device_.copy_on_device(into_whole ? global : local, into_whole ? local : global,
                               static_cast<std::size_t>(run.tokens) * row, stream);
      }
    }
  }

  std::vector<float> download(const Tensor& tensor) {
    const std::int64_t elements = tensor.num_elements();
    std::vector<float> values(static_cast<std::size_t>(elements));
    const DeviceMemory memory(device_, values.size() * sizeof(float));
    const Tensor wide(memory.data(), DType::kFloat32, {elements});
    ops_.cast(tensor.reshape({elements}), wide, whole_.compute());
    device_.copy_to_host(values.data(), wide.raw(), wide.bytes(), whole_.compute());
    whole_.compute().synchronise();
    return values;
  }

  AttentionErrors errors_of(const RankAttention& found) {
    const RankAttention& expected = truth_.attention();
    return {difference(found.out, expected.out), difference(found.dquery, expected.dquery),
            difference(found.dkey_value, expected.dkey_value)};
  }

  double difference(const Tensor& found, const Tensor& expected) {
    const std::vector<float> ours = download(found);
    const std::vector<float> theirs = download(expected);
    double square = 0;
    double norm = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const double expected_value = theirs[i];
      const double error = static_cast<double>(ours[i]) - expected_value;
      square += error * error;
      norm += expected_value * expected_value;
    }
    return std::sqrt(square / norm);
  }

  Device& device_;
  Backend& ops_;
  DType compute_;
  RingBenchCase what_;
  std::unique_ptr<PacedCopier> copier_;
  EmulatedRank truth_;
  EmulatedRank whole_;
  EmulatedRank gathered_;
  std::vector<SentMessages> sent_;  // by rank
};

}  // namespace

bool RingCheck::passes() const {  // NaN does not
  return ring.out <= tolerance.out && ring.dquery <= tolerance.dquery &&
         ring.dkey_value <= tolerance.dkey_value;
}

RingCheck check_ring(Device& device, Backend& ops, DType compute, const RingBenchCase& what) {
  what.sequence_layout();
  return RingChecker(device, ops, compute, what).run();
}

}  // namespace ringtrain
