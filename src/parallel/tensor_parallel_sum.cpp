#include "ringtrain/parallel/tensor_parallel_sum.h"

namespace ringtrain {

TensorParallelSum::TensorParallelSum(Context& context) : context_(context) {
  if (context.mesh.tp->size() > 1) written_ = context.device.make_event();
}

void TensorParallelSum::start(Tensor part, Tensor residual) {
  if (context_.mesh.tp->size() == 1) {
    if (residual) context_.ops.add(residual, part, context_.compute);
    return;
  }
  if (started_ == sums_.size()) sums_.push_back({context_.device.make_event(), {}, {}});
  Sum& sum = sums_[started_++];
  sum.part = part;
  sum.residual = residual;
  context_.compute.record(*written_);
  context_.ring.wait(*written_);
  context_.mesh.tp->all_reduce(part, ReduceOp::kSum, context_.ring);
  context_.ring.record(*sum.done);
}

void TensorParallelSum::finish() {
  if (finished_ == started_) return;
  const Sum& sum = sums_[finished_++];
  context_.wait_for(*sum.done,
                    {.what = "waiting for all_reduce", .group = context_.mesh.tp->name().c_str()});
  if (sum.residual) context_.ops.add(sum.residual, sum.part, context_.compute);
  if (finished_ == started_) started_ = finished_ = 0;
}

}  // namespace ringtrain
