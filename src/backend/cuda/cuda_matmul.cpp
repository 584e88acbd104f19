#include "cuda_matmul.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention_sm90.h"
#include "ringtrain/kernels/elementwise.h"
#include "ringtrain/kernels/gemm_sm90.h"
#include "ringtrain/kernels/swiglu.h"

namespace ringtrain {
namespace {

/// The processors that have a tile, on average over the rounds of a launch: in the last one some
/// may have none, of which cuBLASLt, with tiles of more sizes, makes more.
double share_of_rounds(const kernels::GemmSm90Args& args) {
  constexpr std::int64_t kProcessors = 132, kTileRows = 128, kTileColumns = 256;
  const std::int64_t tiles =
      ((args.m + kTileRows - 1) / kTileRows) * ((args.n + kTileColumns - 1) / kTileColumns);
  const std::int64_t rounds = (tiles + kProcessors - 1) / kProcessors;
  return static_cast<double>(tiles) / static_cast<double>(rounds * kProcessors);
}

/// Calls body(begin, count, product, rest) for blocks of rows whose product, `columns` wide, fits
/// half of the workspace; `rest` is the other half. The blocks depend on the sizes alone.
template <typename Body>
void for_each_row_block(std::int64_t rows, std::int64_t columns, DType dtype,
                        const CublasLt::Workspace& workspace, const Body& body) {
  const CublasLt::Workspace rest{workspace.data, workspace.bytes / 2};
  std::byte* const half = static_cast<std::byte*>(workspace.data) + rest.bytes;
  const std::size_t row_bytes =
      std::max<std::size_t>(static_cast<std::size_t>(columns) * size_of(dtype), 1);
  const auto rows_that_fit = static_cast<std::int64_t>(rest.bytes / row_bytes);
  if (rows_that_fit == 0) {
    throw InvalidArgument(fmt::format("swiglu_matmul: {} columns are too many", columns));
  }
  for (std::int64_t begin = 0; begin < rows; begin += rows_that_fit) {
    const std::int64_t count = std::min(rows_that_fit, rows - begin);
    body(begin, count, Tensor(half, dtype, {count, columns}), rest);
  }
}

void apply_swiglu(const Tensor& gate_up, const Tensor& out, cudaStream_t stream) {
  kernels::launch_swiglu({gate_up.raw(), out.raw(), out.size(0), out.size(1), out.dtype()}, stream);
}

}  // namespace

bool is_sm90_faster(const kernels::GemmSm90Args& args) {
  if (args.addend != nullptr) return true;  // it costs cuBLASLt a kernel more
  return share_of_rounds(args) >= (args.transpose_a ? 0.98 : 0.96);
}

CudaMatmul::CudaMatmul() : wanted_(environment_matmul_kernels()) {
  const bool is_hopper = kernels::is_sm90_device();
  if (wanted_ == MatmulKernels::kSm90 && !is_hopper) {
    throw InvalidArgument("RINGTRAIN_MATMUL=sm90 needs a GPU of compute capability 9.0");
  }
  has_sm90_ = is_hopper && wanted_ != MatmulKernels::kCublasLt;
}

std::string CudaMatmul::description() const {
  return fmt::format("{}cuBLASLt {}", has_sm90_ ? "sm90 wgmma (bf16), " : "", CublasLt::version());
}

void CudaMatmul::matmul(const MatmulArgs& args, const CublasLt::Workspace& workspace,
                        cudaStream_t stream) {
  const kernels::GemmSm90Args hopper{.a = args.a.raw(),
                                     .b = args.b.raw(),
                                     .addend = args.addend.raw(),
                                     .out = args.out.raw(),
                                     .m = args.out.size(0),
                                     .n = args.out.size(1),
                                     .k = args.a.size(args.transpose_a ? 0 : 1),
                                     .transpose_a = args.transpose_a,
                                     .transpose_b = args.transpose_b,
                                     .accumulate = args.accumulate,
                                     .out_type = args.out.dtype()};
  if (has_sm90_ && args.a.dtype() == DType::kBFloat16 && kernels::gemm_sm90_supports(hopper) &&
      (wanted_ == MatmulKernels::kSm90 || is_sm90_faster(hopper))) {
    kernels::launch_gemm_sm90(hopper, stream);
    return;
  }
  cublaslt_.matmul(args, workspace, stream);
  if (args.addend) {
    kernels::launch_add({args.addend.raw(), args.out.raw(), args.out.num_elements(),
                         args.out.dtype(), args.out.dtype()},
                        stream);
  }
}

void CudaMatmul::swiglu(const SwigluMatmulArgs& args, const CublasLt::Workspace& workspace,
                        cudaStream_t stream) {
  const kernels::SwigluGemmSm90Args fused{.x = args.x.raw(),
                                          .weight = args.weight.raw(),
                                          .gate_up = args.gate_up.raw(),
                                          .out = args.out.raw(),
                                          .rows = args.x.size(0),
                                          .width = args.weight.size(0) / 2,
                                          .depth = args.x.size(1)};
  if (has_sm90_ && args.x.dtype() == DType::kBFloat16 &&
      kernels::swiglu_gemm_sm90_supports(fused)) {
    kernels::launch_swiglu_gemm_sm90(fused, stream);
    return;
  }
  for_each_row_block(
      args.x.size(0), args.weight.size(0), args.x.dtype(), workspace,
      [&](std::int64_t begin, std::int64_t count, Tensor product, const CublasLt::Workspace& rest) {
        if (args.gate_up) product = args.gate_up.slice(begin, count);
        cublaslt_.matmul({args.x.slice(begin, count), args.weight, product, false, true}, rest,
                         stream);
        if (args.out) apply_swiglu(product, args.out.slice(begin, count), stream);
      });
}

void CudaMatmul::swiglu_backward(const SwigluMatmulBackwardArgs& args,
                                 const CublasLt::Workspace& workspace, cudaStream_t stream) {
  const std::int64_t width = args.weight.size(1);
  const kernels::SwigluGemmBackwardSm90Args fused{.dout = args.dout.raw(),
                                                  .weight = args.weight.raw(),
                                                  .gate_up = args.gate_up.raw(),
                                                  .dgate_up = args.dgate_up.raw(),
                                                  .activation = args.activation.raw(),
                                                  .rows = args.dout.size(0),
                                                  .width = width,
                                                  .depth = args.dout.size(1)};
  if (has_sm90_ && args.dout.dtype() == DType::kBFloat16 &&
      kernels::swiglu_gemm_backward_sm90_supports(fused)) {
    kernels::launch_swiglu_gemm_backward_sm90(fused, stream);
    return;
  }
  for_each_row_block(
      args.dout.size(0), width, args.dout.dtype(), workspace,
      [&](std::int64_t begin, std::int64_t count, Tensor dactivation,
          const CublasLt::Workspace& rest) {
        const Tensor gate_up = args.gate_up.slice(begin, count);
        cublaslt_.matmul({args.dout.slice(begin, count), args.weight, dactivation}, rest, stream);
        if (args.activation) apply_swiglu(gate_up, args.activation.slice(begin, count), stream);
        kernels::launch_swiglu_backward({.gate_up = gate_up.raw(),
                                         .dout = dactivation.raw(),
                                         .dgate_up = args.dgate_up.slice(begin, count).raw(),
                                         .rows = count,
                                         .width = width,
                                         .compute = args.dout.dtype()},
                                        stream);
      });
}

}  // namespace ringtrain
