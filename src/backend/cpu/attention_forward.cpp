// Blockwise attention (arXiv:2305.19370) with online softmax: a task is one block of query rows of
// one head, which walks over the blocks of keys it sees.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "attention_blocks.h"
#include "exponential.h"
#include "ringtrain/ops/cpu/operations.h"

namespace ringtrain::cpu {
namespace {

/// The rows of a task: sums of exp(score - maximum) and of the same times the values.
/// A finished state (partial, lse) is the same thing with maximum = lse and sum = 1.
template <typename A>
struct RunningRows {
  RunningRows(std::int64_t rows, std::int64_t head_dim)
      : maximum(static_cast<std::size_t>(rows)),
        sum(static_cast<std::size_t>(rows)),
        weighted(static_cast<std::size_t>(rows * head_dim)) {}

  std::vector<A> maximum, sum, weighted;
};

/// Turns a row of scores into exp(scale score - maximum) where visible and 0 elsewhere, and brings
/// the running row to the new maximum.
template <typename A>
void fold_scores(A* scores, std::int64_t keys, KeyRange visible, A scale, A& maximum, A& sum,
                 A* weighted, std::int64_t head_dim) {
  std::fill(scores, scores + visible.begin, A{0});
  std::fill(scores + visible.end, scores + keys, A{0});
  if (visible.begin == visible.end) return;
  A* row = scores + visible.begin;
  const std::int64_t count = visible.end - visible.begin;
  for (std::int64_t i = 0; i < count; ++i) row[i] *= scale;
  const A largest = max_over<A>(count, maximum, [row](std::int64_t i) { return row[i]; });
  for (std::int64_t i = 0; i < count; ++i) row[i] = exponential(row[i] - largest);
  const A added = sum_over<A>(count, [row](std::int64_t i) { return row[i]; });
  if (largest != maximum) {
    const A factor = exponential(maximum - largest);  // 0 for the first keys of a row
    sum *= factor;
    for (std::int64_t i = 0; i < head_dim; ++i) weighted[i] *= factor;
    maximum = largest;
  }
  sum += added;
}

template <typename T>
class ForwardTask {
 public:
  using A = Accumulator<T>;

  ForwardTask(const AttentionForwardArgs& args, std::int64_t query_block, std::int64_t key_block)
      : args_(args),
        key_block_(key_block),
        head_dim_(args.query.size(3)),
        running_(query_block, head_dim_),
        scores_(
            std::make_unique_for_overwrite<A[]>(static_cast<std::size_t>(query_block * key_block))),
        query_(
            std::make_unique_for_overwrite<A[]>(static_cast<std::size_t>(query_block * head_dim_))),
        key_(std::make_unique_for_overwrite<A[]>(static_cast<std::size_t>(key_block * head_dim_))) {
  }

  /// Query rows [begin, begin + rows) of head `head` of sequence `b`.
  void run(std::int64_t b, std::int64_t head, std::int64_t begin, std::int64_t rows) {
    load(b, head, begin, rows);
    const std::int64_t group = args_.query.size(2) / args_.key.size(2);
    const VisibleRows visible(args_.mask, b, begin, rows);
    const auto query = head_rows<T>(args_.query, b, head, begin, rows, query_.get());
    const std::int64_t first = visible.all.begin / key_block_ * key_block_;
    for (std::int64_t k = first; k < visible.all.end; k += key_block_) {
      const std::int64_t keys = std::min(key_block_, args_.key.size(1) - k);
      const auto key = head_rows<T>(args_.key, b, head / group, k, keys, key_.get());
      gemm<A>(rows, keys, head_dim_, query, transposed(key), scores_.get(), keys, false);
      for (std::int64_t i = 0; i < rows; ++i) {
        const auto row = static_cast<std::size_t>(i);
        fold_scores(scores_.get() + i * keys, keys, visible.within(i, k, k + keys),
                    static_cast<A>(args_.softmax_scale), running_.maximum[row], running_.sum[row],
                    weighted(i), head_dim_);
      }
      const auto value = head_rows<T>(args_.value, b, head / group, k, keys, key_.get());
      gemm<A>(rows, head_dim_, keys, {scores_.get(), keys}, value, weighted(0), head_dim_, true);
    }
    store(b, head, begin, rows);
  }

 private:
  A* weighted(std::int64_t row) { return running_.weighted.data() + row * head_dim_; }
  std::int64_t state_offset(std::int64_t b, std::int64_t head, std::int64_t token) const {
    return ((b * args_.query.size(1) + token) * args_.query.size(2) + head) * head_dim_;
  }
  A* lse(std::int64_t b, std::int64_t head, std::int64_t token) const {
    return args_.lse.data<A>() + (b * args_.query.size(2) + head) * args_.query.size(1) + token;
  }

  void load(std::int64_t b, std::int64_t head, std::int64_t begin, std::int64_t rows) {
    constexpr A kNoKey = -std::numeric_limits<A>::infinity();
    for (std::int64_t i = 0; i < rows; ++i) {
      const auto row = static_cast<std::size_t>(i);
      running_.maximum[row] = args_.first ? kNoKey : *lse(b, head, begin + i);
      running_.sum[row] = running_.maximum[row] == kNoKey ? A{0} : A{1};
      if (args_.first) {
        std::fill_n(weighted(i), head_dim_, A{0});
      } else {
        std::copy_n(args_.partial.data<A>() + state_offset(b, head, begin + i), head_dim_,
                    weighted(i));
      }
    }
  }

  void store(std::int64_t b, std::int64_t head, std::int64_t begin, std::int64_t rows) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const auto row = static_cast<std::size_t>(i);
      const A sum = running_.sum[row];
      // A row without keys has sum 0, maximum -inf and zeros, which stay what they are.
      const A normaliser = sum == 0 ? A{1} : sum;
      *lse(b, head, begin + i) = running_.maximum[row] + std::log(normaliser);
      A* finished = weighted(i);
      for (std::int64_t d = 0; d < head_dim_; ++d) finished[d] /= normaliser;
      const std::int64_t offset = state_offset(b, head, begin + i);
      if (args_.last) {
        narrow(finished, args_.out.data<T>() + offset, head_dim_);
      } else {
        std::copy_n(finished, head_dim_, args_.partial.data<A>() + offset);
      }
    }
  }

  const AttentionForwardArgs& args_;
  std::int64_t key_block_, head_dim_;
  RunningRows<A> running_;
  std::unique_ptr<A[]> scores_;  // [rows, keys]
  std::unique_ptr<A[]> query_;   // [rows, head_dim], where it has to be widened
  std::unique_ptr<A[]> key_;     // [keys, head_dim], then the values
};

}  // namespace

template <typename T>
void attention_forward(const AttentionForwardArgs& args) {
  const std::int64_t batch = args.query.size(0), tokens = args.query.size(1);
  const std::int64_t heads = args.num_heads > 0 ? args.num_heads : args.query.size(2);
  const std::int64_t rows = std::min(block_size(args.query_chunk_size, kMaxQueryBlock), tokens);
  if (batch * rows * heads == 0) return;
  const std::int64_t keys = std::max<std::int64_t>(
      1, std::min(block_size(args.key_chunk_size, kMaxKeyBlock), args.key.size(1)));
  const std::int64_t blocks = (tokens + rows - 1) / rows;
#pragma omp parallel if (worth_threads(batch * heads * tokens * args.key.size(1)))
  {
    ForwardTask<T> task(args, rows, keys);
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < batch * heads * blocks; ++i) {
      const std::int64_t begin = i % blocks * rows;
      task.run(i / (heads * blocks), args.first_head + i / blocks % heads, begin,
               std::min(rows, tokens - begin));
    }
  }
}

template <typename T>
void attention_delta(const AttentionDeltaArgs& args) {
  using A = Accumulator<T>;
  const std::int64_t batch = args.out.size(0), tokens = args.out.size(1);
  const std::int64_t heads = args.out.size(2), head_dim = args.out.size(3);
#pragma omp parallel for if (worth_threads(batch * tokens * heads * head_dim))
  for (std::int64_t row = 0; row < batch * tokens; ++row) {
    const std::int64_t b = row / tokens, t = row % tokens;
    for (std::int64_t head = 0; head < heads; ++head) {
      const T* out = args.out.data<T>() + (row * heads + head) * head_dim;
      const T* dout = args.dout.data<T>() + (row * heads + head) * head_dim;
      args.delta.data<A>()[(b * heads + head) * tokens + t] = sum_over<A>(
          head_dim,
          [out, dout](std::int64_t i) { return static_cast<A>(out[i]) * static_cast<A>(dout[i]); });
    }
  }
}

template void attention_forward<float>(const AttentionForwardArgs&);
template void attention_forward<bfloat16>(const AttentionForwardArgs&);
template void attention_forward<double>(const AttentionForwardArgs&);
template void attention_delta<float>(const AttentionDeltaArgs&);
template void attention_delta<bfloat16>(const AttentionDeltaArgs&);
template void attention_delta<double>(const AttentionDeltaArgs&);

}  // namespace ringtrain::cpu
