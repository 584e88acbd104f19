#pragma once

#include "ringtrain/ops/backend.h"

/// The operations of ops/backend.h on host memory, at once and on the calling thread's OpenMP
/// team. Written once over T, the type of the compute tensors:
///
/// float, bfloat16  computed in float; bfloat16 is rounded once, at the end
/// double           computed in double, every fp32 tensor of the contract being fp64 (see
///                  ops/check.h): the oracle of the tests
///
/// Results do not depend on the number of threads. Shapes are those of ops/backend.h and are not
/// checked here: check_args does that. Errors: InvalidArgument if T is not the tensors' type.
namespace ringtrain::cpu {

void fill(Tensor out, double value);
void cast(Tensor in, Tensor out);
void add(Tensor in, Tensor inout);
void transpose(Tensor in, Tensor out);

template <typename T>
void matmul(const MatmulArgs& args);

template <typename T>
void rms_norm(const RmsNormArgs& args);
template <typename T>
void rms_norm_backward(const RmsNormBackwardArgs& args);

template <typename T>
void rope_split(const RopeSplitArgs& args);
template <typename T>
void rope_merge(const RopeMergeArgs& args);

/// Blocks are the chunk sizes or smaller ones that fit the cache.
template <typename T>
void attention_forward(const AttentionForwardArgs& args);
template <typename T>
void attention_delta(const AttentionDeltaArgs& args);
template <typename T>
void attention_backward(const AttentionBackwardArgs& args);

/// What is absent lives in blocks of rows.
template <typename T>
void swiglu_matmul(const SwigluMatmulArgs& args);
template <typename T>
void swiglu_matmul_backward(const SwigluMatmulBackwardArgs& args);

template <typename T>
void embedding(const EmbeddingArgs& args);
template <typename T>
void embedding_backward(const EmbeddingBackwardArgs& args);

template <typename T>
void cross_entropy_stats(const CrossEntropyStatsArgs& args);
/// T: float or double, the type of the statistics.
template <typename T>
void cross_entropy_rescale(const CrossEntropyRescaleArgs& args);
template <typename T>
void cross_entropy_finish(const CrossEntropyFinishArgs& args);

// T: float or double, the type of the flat tensors.
template <typename T>
void sum_of_squares(const SumOfSquaresArgs& args);
template <typename T>
void clip_scale(const ClipScaleArgs& args);
template <typename T>
void adamw(const AdamWArgs& args);
template <typename T>
void adafactor(const AdafactorArgs& args);
template <typename T>
void random_normal(const RandomNormalArgs& args);

}  // namespace ringtrain::cpu
