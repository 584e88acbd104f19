#pragma once

#include <cstdint>

#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/parameter_table.h"
#include "ringtrain/parallel/tensor_parallel_sum.h"

namespace ringtrain {

/// Final norm, vocabulary-parallel projection and cross entropy, by chunks of tokens: logits exist
/// for one chunk at a time, and their gradient is formed in the same pass.
class LossHead {
 public:
  struct Options {
    TpSlice vocabulary;       ///< entries of this tp rank, padding excluded
    std::int64_t chunk_size;  ///< tokens whose logits exist at a time
    float rms_norm_eps;
  };
  LossHead(Context& context, const Options& options)
      : context_(context), options_(options), sum_(context) {}

  struct Args {
    Tensor x;        ///< [rows, D] compute: output of the last layer
    Tensor norm;     ///< [D] compute
    Tensor matrix;   ///< [V, D] compute: this tp rank's rows of lm_head (or of the tied table)
    Tensor targets;  ///< [rows] int32
    Tensor weights;  ///< [rows] fp32, of each token's loss
    Tensor totals;   ///< [2] fp64, added to: sums of weight * loss and weight * correct
    Tensor logits;   ///< [rows, V] compute, written; or absent
  };
  /// The loss alone.
  void evaluate(const Args& args);

  struct Gradients {
    Tensor dx;       ///< [rows, D] compute, written
    Tensor dnorm;    ///< [D] fp32, added to
    Tensor dmatrix;  ///< [V, D] fp32, added to, or overwritten if it is empty
    bool dmatrix_is_empty;
  };
  /// The loss and the gradient of the sum of weight * loss.
  void train(const Args& args, const Gradients& gradients);

 private:
  void run(const Args& args, const Gradients* gradients);
  void cross_entropy(Tensor logits, Tensor targets, Tensor weights, Tensor totals,
                     bool write_gradient);

  Context& context_;
  Options options_;
  TensorParallelSum sum_;  // of the gradient of a chunk's input
};

}  // namespace ringtrain
