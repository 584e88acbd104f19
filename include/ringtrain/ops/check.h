#pragma once

#include "ringtrain/ops/backend.h"

/// Shape and type checks of every operation, shared by the back ends: each calls them first.
///
/// All throw InvalidArgument naming the operation, the tensor, what it is and what it must be.
/// They look at shapes, types and presence only, so they also work on the meta device.
///
/// Besides fp32 and bf16 they let compute tensors be fp64; whatever is fp32 by contract in
/// ops/backend.h (statistics, partial results, gradients) is then fp64 too, except the inputs
/// RopeSplitArgs::inverse_frequency and RopeMergeArgs::inverse_frequency. Only the CPU back end
/// computes in fp64, for the oracle of the tests; others refuse it when they choose a kernel.
namespace ringtrain {

/// Type of sums, statistics and gradients beside tensors of type `compute`: fp64 for fp64, else
/// fp32.
DType accumulator_of(DType compute);

void check_fill(const Tensor& out);
void check_cast(const Tensor& in, const Tensor& out);
void check_add(const Tensor& in, const Tensor& inout);
void check_transpose(const Tensor& in, const Tensor& out);
void check_args(const MatmulArgs& args);
void check_args(const RmsNormArgs& args);
void check_args(const RmsNormBackwardArgs& args);
void check_args(const RopeSplitArgs& args);
void check_args(const RopeMergeArgs& args);
void check_args(const AttentionForwardArgs& args);
void check_args(const AttentionDeltaArgs& args);
void check_args(const AttentionBackwardArgs& args);
void check_args(const SwigluMatmulArgs& args);
void check_args(const SwigluMatmulBackwardArgs& args);
void check_args(const EmbeddingArgs& args);
void check_args(const EmbeddingBackwardArgs& args);
void check_args(const CrossEntropyStatsArgs& args);
void check_args(const CrossEntropyRescaleArgs& args);
void check_args(const CrossEntropyFinishArgs& args);
void check_args(const SumOfSquaresArgs& args);
void check_args(const ClipScaleArgs& args);
void check_args(const AdamWArgs& args);
void check_args(const AdafactorArgs& args);
void check_args(const RandomNormalArgs& args);

}  // namespace ringtrain
