// A task is one key/value head of one sequence with all query heads of its group: everything it
// writes is its own, so sums have one order whatever the number of threads.
#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "attention_blocks.h"
#include "exponential.h"
#include "ringtrain/ops/cpu/operations.h"

namespace ringtrain::cpu {
namespace {

template <typename T>
class BackwardTask {
 public:
  using A = Accumulator<T>;

  BackwardTask(const AttentionBackwardArgs& args, std::int64_t query_block, std::int64_t key_block)
      : args_(args),
        query_block_(query_block),
        key_block_(key_block),
        head_dim_(args.query.size(3)),
        probabilities_(scratch(query_block * key_block)),
        score_gradients_(scratch(query_block * key_block)),
        query_(scratch(query_block * head_dim_)),
        dout_(scratch(query_block * head_dim_)),
        key_(scratch(key_block * head_dim_)),
        value_(scratch(key_block * head_dim_)) {}

  void run(std::int64_t b, std::int64_t kv_head) {
    const std::int64_t tokens = args_.query.size(1), num_keys = args_.key.size(1);
    const std::int64_t group = args_.query.size(2) / args_.key.size(2);
    for (std::int64_t q = 0; q < tokens; q += query_block_) {
      const std::int64_t rows = std::min(query_block_, tokens - q);
      const VisibleRows visible(args_.mask, b, q, rows);
      const std::int64_t first = visible.all.begin / key_block_ * key_block_;
      for (std::int64_t k = first; k < visible.all.end; k += key_block_) {
        const std::int64_t keys = std::min(key_block_, num_keys - k);
        const auto key = head_rows<T>(args_.key, b, kv_head, k, keys, key_.get());
        const auto value = head_rows<T>(args_.value, b, kv_head, k, keys, value_.get());
        for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
          block(b, head, kv_head, q, rows, visible, k, keys, key, value);
        }
      }
    }
  }

 private:
  static std::unique_ptr<A[]> scratch(std::int64_t count) {
    return std::make_unique_for_overwrite<A[]>(static_cast<std::size_t>(count));
  }
  static A* head_of(const Tensor& tensor, std::int64_t b, std::int64_t head, std::int64_t token) {
    return tensor.data<A>() +
           ((b * tensor.size(1) + token) * tensor.size(2) + head) * tensor.size(3);
  }

  /// Query rows [q, q + rows) of `head` against keys [k, k + keys).
  void block(std::int64_t b, std::int64_t head, std::int64_t kv_head, std::int64_t q,
             std::int64_t rows, const VisibleRows& visible, std::int64_t k, std::int64_t keys,
             Matrix<A> key, Matrix<A> value) {
    const auto query = head_rows<T>(args_.query, b, head, q, rows, query_.get());
    const auto dout = head_rows<T>(args_.dout, b, head, q, rows, dout_.get());
    A* p = probabilities_.get();
    A* ds = score_gradients_.get();
    gemm<A>(rows, keys, head_dim_, query, transposed(key), p, keys, false);
    gemm<A>(rows, keys, head_dim_, dout, transposed(value), ds, keys, false);
    const std::int64_t state = (b * args_.query.size(2) + head) * args_.query.size(1) + q;
    for (std::int64_t i = 0; i < rows; ++i) {
      differentiate_softmax(p + i * keys, ds + i * keys, keys, visible.within(i, k, k + keys),
                            args_.lse.data<A>()[state + i], args_.delta.data<A>()[state + i]);
    }
    const std::int64_t query_stride = args_.query.size(2) * head_dim_;
    const std::int64_t key_stride = args_.key.size(2) * head_dim_;
    gemm<A>(keys, head_dim_, rows, {p, keys, true}, dout, head_of(args_.dvalue, b, kv_head, k),
            key_stride, true);
    gemm<A>(keys, head_dim_, rows, {ds, keys, true}, query, head_of(args_.dkey, b, kv_head, k),
            key_stride, true);
    gemm<A>(rows, head_dim_, keys, {ds, keys}, key, head_of(args_.dquery, b, head, q), query_stride,
            true);
  }

  /// scores -> p, dp -> scale ds, zero outside `visible`.
  void differentiate_softmax(A* scores, A* dp, std::int64_t keys, KeyRange visible, A lse,
                             A delta) const {
    const A scale = static_cast<A>(args_.softmax_scale);
    if (lse == -std::numeric_limits<A>::infinity()) visible = {0, 0};  // a row without any key
    for (A* row : {scores, dp}) {
      std::fill(row, row + visible.begin, A{0});
      std::fill(row + visible.end, row + keys, A{0});
    }
    for (std::int64_t i = visible.begin; i < visible.end; ++i) {
      scores[i] = exponential(scale * scores[i] - lse);
      dp[i] = scale * scores[i] * (dp[i] - delta);
    }
  }

  const AttentionBackwardArgs& args_;
  std::int64_t query_block_, key_block_, head_dim_;
  std::unique_ptr<A[]> probabilities_, score_gradients_;  // [rows, keys]
  std::unique_ptr<A[]> query_, dout_;                     // [rows, head_dim], where widened
  std::unique_ptr<A[]> key_, value_;                      // [keys, head_dim], where widened
};

template <typename T>
void add_gradients(const AttentionBackwardArgs& args) {
  const std::int64_t batch = args.query.size(0), kv_heads = args.key.size(2);
  const std::int64_t rows =
      std::min(block_size(args.query_chunk_size, kMaxQueryBlock), args.query.size(1));
  const std::int64_t keys =
      std::min(block_size(args.key_chunk_size, kMaxKeyBlock), args.key.size(1));
  if (batch * rows * args.query.size(2) * keys == 0) return;
#pragma omp parallel if (worth_threads(args.lse.num_elements() * args.key.size(1)))
  {
    BackwardTask<T> task(args, rows, keys);
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < batch * kv_heads; ++i) task.run(i / kv_heads, i % kv_heads);
  }
}

}  // namespace

template <typename T>
void attention_backward(const AttentionBackwardArgs& args) {
  using A = Accumulator<T>;
  if (args.dkey.dtype() == dtype_of<A>) return add_gradients<T>(args);
  const std::int64_t count = args.dkey.num_elements();
  std::vector<A> dkey(static_cast<std::size_t>(count)), dvalue(static_cast<std::size_t>(count));
  AttentionBackwardArgs summed = args;
  summed.dkey = {dkey.data(), dtype_of<A>, args.dkey.shape()};
  summed.dvalue = {dvalue.data(), dtype_of<A>, args.dvalue.shape()};
  add_gradients<T>(summed);
  narrow(dkey.data(), args.dkey.data<T>(), count);
  narrow(dvalue.data(), args.dvalue.data<T>(), count);
}

template void attention_backward<float>(const AttentionBackwardArgs&);
template void attention_backward<bfloat16>(const AttentionBackwardArgs&);
template void attention_backward<double>(const AttentionBackwardArgs&);

}  // namespace ringtrain::cpu
