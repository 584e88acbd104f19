#include <fmt/format.h>
#include <omp.h>

#include <memory>
#include <string>
#include <type_traits>

#include "gemm.h"
#include "ringtrain/core/cpu_stream.h"
#include "ringtrain/core/error.h"
#include "ringtrain/ops/check.h"
#include "ringtrain/ops/cpu/operations.h"
#include "ringtrain/ops/skipped_keys.h"

namespace ringtrain {
namespace {

/// Calls body(std::type_identity<T>) with the element type of compute tensors.
template <typename Body>
void with_compute_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kFloat32:
      return body(std::type_identity<float>{});
    case DType::kBFloat16:
      return body(std::type_identity<bfloat16>{});
    case DType::kFloat64:
      return body(std::type_identity<double>{});
    default:
      throw InvalidArgument(fmt::format("the cpu does not compute in {}", name_of(dtype)));
  }
}

/// The same for tensors that are fp32 by contract, or fp64 in the oracle.
template <typename Body>
void with_accumulator_type(DType dtype, Body&& body) {
  if (dtype == DType::kFloat64) return body(std::type_identity<double>{});
  body(std::type_identity<float>{});
}

class CpuBackend final : public Backend {
 public:
  std::size_t workspace_bytes() const override { return 0; }
  void bind_workspace(Tensor) override {}
  std::string description() const override {
    return fmt::format("attention: blockwise loops, matmul: {}, {} threads",
                       cpu::gemm_description(), omp_get_max_threads());
  }

  void fill(Tensor out, double value, Stream& stream) override {
    check_fill(out);
    enqueue(stream, [&] { cpu::fill(out, value); });
  }
  void cast(Tensor in, Tensor out, Stream& stream) override {
    check_cast(in, out);
    enqueue(stream, [&] { cpu::cast(in, out); });
  }
  void add(Tensor in, Tensor inout, Stream& stream) override {
    check_add(in, inout);
    enqueue(stream, [&] { cpu::add(in, inout); });
  }
  void transpose(Tensor in, Tensor out, Stream& stream) override {
    check_transpose(in, out);
    enqueue(stream, [&] { cpu::transpose(in, out); });
  }

  void matmul(const MatmulArgs& args, Stream& stream) override {
    compute(args, args.a, stream, [&]<typename T>(std::type_identity<T>) { cpu::matmul<T>(args); });
  }
  void rms_norm(const RmsNormArgs& args, Stream& stream) override {
    compute(args, args.x, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::rms_norm<T>(args); });
  }
  void rms_norm_backward(const RmsNormBackwardArgs& args, Stream& stream) override {
    compute(args, args.x, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::rms_norm_backward<T>(args); });
  }
  void rope_split(const RopeSplitArgs& args, Stream& stream) override {
    compute(args, args.qkv, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::rope_split<T>(args); });
  }
  void rope_merge(const RopeMergeArgs& args, Stream& stream) override {
    compute(args, args.dqkv, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::rope_merge<T>(args); });
  }
  void attention_forward(const AttentionForwardArgs& args, Stream& stream) override {
    compute(args, args.query, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::attention_forward<T>(args); });
  }
  void attention_delta(const AttentionDeltaArgs& args, Stream& stream) override {
    compute(args, args.out, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::attention_delta<T>(args); });
  }
  void attention_backward(const AttentionBackwardArgs& args, Stream& stream) override {
    if (args.skipped.tokens > 0) {
      check_args(args);
      for (const auto& part : around_skipped_keys(args)) attention_backward(part, stream);
      return;
    }
    if (args.overwrite_key_value) {
      fill(args.dkey, 0, stream);
      fill(args.dvalue, 0, stream);
    }
    compute(args, args.query, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::attention_backward<T>(args); });
  }
  bool attention_overlaps(const Tensor&, const AttentionMask&) const override {
    return true;  // streams take turns
  }
  void swiglu_matmul(const SwigluMatmulArgs& args, Stream& stream) override {
    compute(args, args.x, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::swiglu_matmul<T>(args); });
  }
  void swiglu_matmul_backward(const SwigluMatmulBackwardArgs& args, Stream& stream) override {
    compute(args, args.dout, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::swiglu_matmul_backward<T>(args); });
  }
  void embedding(const EmbeddingArgs& args, Stream& stream) override {
    compute(args, args.table, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::embedding<T>(args); });
  }
  void embedding_backward(const EmbeddingBackwardArgs& args, Stream& stream) override {
    compute(args, args.dout, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::embedding_backward<T>(args); });
  }
  void cross_entropy_stats(const CrossEntropyStatsArgs& args, Stream& stream) override {
    compute(args, args.logits, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::cross_entropy_stats<T>(args); });
  }
  void cross_entropy_rescale(const CrossEntropyRescaleArgs& args, Stream& stream) override {
    accumulate(args, args.stats, stream,
               [&]<typename T>(std::type_identity<T>) { cpu::cross_entropy_rescale<T>(args); });
  }
  void cross_entropy_finish(const CrossEntropyFinishArgs& args, Stream& stream) override {
    compute(args, args.logits, stream,
            [&]<typename T>(std::type_identity<T>) { cpu::cross_entropy_finish<T>(args); });
  }

  void sum_of_squares(const SumOfSquaresArgs& args, Stream& stream) override {
    accumulate(args, args.x, stream,
               [&]<typename T>(std::type_identity<T>) { cpu::sum_of_squares<T>(args); });
  }
  void clip_scale(const ClipScaleArgs& args, Stream& stream) override {
    accumulate(args, args.out, stream,
               [&]<typename T>(std::type_identity<T>) { cpu::clip_scale<T>(args); });
  }
  void adamw(const AdamWArgs& args, Stream& stream) override {
    accumulate(args, args.param, stream,
               [&]<typename T>(std::type_identity<T>) { cpu::adamw<T>(args); });
  }
  void adafactor(const AdafactorArgs& args, Stream& stream) override {
    accumulate(args, args.param, stream,
               [&]<typename T>(std::type_identity<T>) { cpu::adafactor<T>(args); });
  }
  void random_normal(const RandomNormalArgs& args, Stream& stream) override {
    accumulate(args, args.out, stream,
               [&]<typename T>(std::type_identity<T>) { cpu::random_normal<T>(args); });
  }

 private:
  /// Every operation passes here: what is pending on its stream comes first.
  template <typename Operation>
  static void enqueue(Stream& stream, Operation&& operation) {
    CpuStream::of(stream).complete();
    operation();
  }

  /// Checks `args` and runs `operation` in the compute type, that of `example`.
  template <typename Args, typename Operation>
  static void compute(const Args& args, const Tensor& example, Stream& stream,
                      Operation&& operation) {
    check_args(args);
    enqueue(stream, [&] { with_compute_type(example.dtype(), operation); });
  }
  template <typename Args, typename Operation>
  static void accumulate(const Args& args, const Tensor& example, Stream& stream,
                         Operation&& operation) {
    check_args(args);
    enqueue(stream, [&] { with_accumulator_type(example.dtype(), operation); });
  }
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend() {
  return std::make_unique<CpuBackend>();
}

}  // namespace ringtrain
