#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "ringtrain/parallel/context.h"

namespace ringtrain {

/// Sums over tp on Context::ring, while the compute stream goes on with what does not need them:
///
///   compute   part 0 | part 1       | part 2       | finish 0, use it | finish 1 ...
///   ring               sum of part 0  sum of part 1  sum of part 2
///
/// Collective  all ranks of tp, with equal shapes, in the same order
/// Order       first started, first finished
/// Memory      a part and its residual rest from `start` until `finish` returns: longer than an
///             arena's scope that ends between the two
/// One rank    waits for nothing and has no events
class TensorParallelSum {
 public:
  explicit TensorParallelSum(Context& context);

  /// Begins to sum `part` in place, once the compute stream has written it. When it is finished,
  /// part = sum + residual; `residual` has its shape and dtype or is absent.
  void start(Tensor part, Tensor residual = {});
  /// What the compute stream is given from here on sees the oldest sum that was started and not
  /// finished; nothing if there is none.
  void finish();

 private:
  struct Sum {
    std::unique_ptr<Event> done;  // ring stream
    Tensor part, residual;
  };

  Context& context_;
  std::unique_ptr<Event> written_;  // compute stream: the part that is summed next
  // Sums [finished, started) are under way; entries are used again once all are finished.
  std::vector<Sum> sums_;
  std::size_t started_ = 0;
  std::size_t finished_ = 0;
};

}  // namespace ringtrain
