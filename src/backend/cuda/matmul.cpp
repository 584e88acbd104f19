#include "matmul.h"

#include <cublasLt.h>
#include <fmt/format.h>

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>

#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/elementwise.h"

namespace ringtrain {
namespace {

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(fmt::format("{} failed: {}", call, cublasLtGetStatusString(status)));
}
#define RT_CUBLAS_CHECK(call) check((call), #call)

template <typename T, cublasStatus_t (*destroy)(T)>
struct Destroy {
  using pointer = T;
  void operator()(T handle) const { destroy(handle); }
};
using Handle = std::unique_ptr<cublasLtHandle_t, Destroy<cublasLtHandle_t, cublasLtDestroy>>;
using MatmulDesc =
    std::unique_ptr<cublasLtMatmulDesc_t, Destroy<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<cublasLtMatrixLayout_t,
                               Destroy<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>>;
using Preference =
    std::unique_ptr<cublasLtMatmulPreference_t,
                    Destroy<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>>;

/// What the choice of an algorithm depends on.
struct Problem {
  std::int64_t m, n, k;
  std::int64_t stride_a;  // elements between rows of a; b and out are contiguous
  DType in, out;
  bool transpose_a, transpose_b;
  std::uint32_t align_a, align_b, align_out;
  std::size_t workspace_bytes;
  auto operator<=>(const Problem&) const = default;
};

struct Plan {
  MatmulDesc desc;
  Layout a, b, out;
  cublasLtMatmulAlgo_t algo;
};

cudaDataType_t cuda_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return CUDA_R_32F;
    case DType::kBFloat16:
      return CUDA_R_16BF;
    default:
      throw InvalidArgument(
          fmt::format("matmul: a GPU multiplies fp32 or bf16, not {}", name_of(dtype)));
  }
}

/// Largest power of two up to 256 that divides the address.
std::uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | 256u;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

/// A row-major matrix as cuBLASLt sees it: [columns, rows], columns first.
Layout make_layout(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  RT_CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, cuda_type(dtype),
                                             static_cast<std::uint64_t>(columns),
                                             static_cast<std::uint64_t>(rows), stride));
  return Layout(layout);
}

template <typename T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         T value) {
  RT_CUBLAS_CHECK(
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
}

/// Since cuBLASLt sees every matrix transposed, out = a b is computed as out^T = b^T a^T: our b is
/// its first operand, our a its second.
Plan make_plan(cublasLtHandle_t handle, const Problem& p) {
  Plan plan;
  cublasLtMatmulDesc_t desc = nullptr;
  RT_CUBLAS_CHECK(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  plan.desc.reset(desc);
  const cublasOperation_t op_first = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t op_second = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  RT_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &op_first,
                                                 sizeof(op_first)));
  RT_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &op_second,
                                                 sizeof(op_second)));
  plan.a = p.transpose_a ? make_layout(p.in, p.k, p.m, p.stride_a)
                         : make_layout(p.in, p.m, p.k, p.stride_a);
  plan.b = p.transpose_b ? make_layout(p.in, p.n, p.k, p.k) : make_layout(p.in, p.k, p.n, p.n);
  plan.out = make_layout(p.out, p.m, p.n, p.n);

  cublasLtMatmulPreference_t raw = nullptr;
  RT_CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&raw));
  const Preference preference(raw);
  set(raw, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{p.workspace_bytes});
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.align_b);
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.align_a);
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.align_out);
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.align_out);
  // Split sums are added in fp32: a bf16 result is rounded once.
  set(raw, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle, desc, plan.b.get(), plan.a.get(), plan.out.get(),
                                     plan.out.get(), raw, 1, &result, &found);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
    throw DeviceError(
        fmt::format("cuBLASLt has no algorithm for [{}, {}] x [{}, {}] in {} with {} out: {}", p.m,
                    p.k, p.k, p.n, name_of(p.in), name_of(p.out), cublasLtGetStatusString(status)));
  }
  plan.algo = result.algo;
  return plan;
}

}  // namespace

struct CublasLt::State {
  Handle handle;
  std::map<Problem, Plan> plans;

  /// out = a b, or out += a b, for a with `stride_a` elements between its rows.
  void multiply(const void* a, std::int64_t stride_a, const MatmulArgs& args, void* out,
                DType out_type, std::int64_t rows, bool accumulate, const Workspace& workspace,
                cudaStream_t stream);
};

void CublasLt::State::multiply(const void* a, std::int64_t stride_a, const MatmulArgs& args,
                               void* out, DType out_type, std::int64_t rows, bool accumulate,
                               const Workspace& workspace, cudaStream_t stream) {
  const Problem problem{.m = rows,
                        .n = args.out.size(1),
                        .k = args.a.size(args.transpose_a ? 0 : 1),
                        .stride_a = stride_a,
                        .in = args.a.dtype(),
                        .out = out_type,
                        .transpose_a = args.transpose_a,
                        .transpose_b = args.transpose_b,
                        .align_a = alignment_of(a),
                        .align_b = alignment_of(args.b.raw()),
                        .align_out = alignment_of(out),
                        .workspace_bytes = workspace.bytes};
  auto found = plans.find(problem);
  if (found == plans.end()) {
    found = plans.emplace(problem, make_plan(handle.get(), problem)).first;
  }
  const Plan& plan = found->second;
  const float alpha = 1.0f;
  const float beta = accumulate ? 1.0f : 0.0f;
  RT_CUBLAS_CHECK(cublasLtMatmul(handle.get(), plan.desc.get(), &alpha, args.b.raw(), plan.b.get(),
                                 a, plan.a.get(), &beta, out, plan.out.get(), out, plan.out.get(),
                                 &plan.algo, workspace.data, workspace.bytes, stream));
}

CublasLt::CublasLt() : state_(std::make_unique<State>()) {
  cublasLtHandle_t handle = nullptr;
  RT_CUBLAS_CHECK(cublasLtCreate(&handle));
  state_->handle.reset(handle);
}

CublasLt::~CublasLt() = default;

void CublasLt::matmul(const MatmulArgs& args, const Workspace& workspace, cudaStream_t stream) {
  const std::int64_t m = args.out.size(0);
  const std::int64_t n = args.out.size(1);
  const std::int64_t k = args.a.size(args.transpose_a ? 0 : 1);
  const std::int64_t stride_a = args.transpose_a ? m : k;
  if (m == 0 || n == 0) return;
  if (k == 0) {  // an empty sum
    if (!args.accumulate) {
      RT_CUDA_CHECK(cudaMemsetAsync(args.out.raw(), 0, args.out.bytes(), stream));
    }
    return;
  }
  if (!args.accumulate || args.out.dtype() == DType::kFloat32) {
    state_->multiply(args.a.raw(), stride_a, args, args.out.raw(), args.out.dtype(), m,
                     args.accumulate, workspace, stream);
    return;
  }
  // Some kernels of cuBLASLt round the product to bf16 before they add it. Here it stays in fp32,
  // in half of the workspace, as many rows at a time as fit.
  const Workspace half{workspace.data, workspace.bytes / 2};
  void* product = static_cast<std::byte*>(workspace.data) + half.bytes;
  const auto rows_that_fit = static_cast<std::int64_t>(half.bytes / sizeof(float)) / n;
  if (rows_that_fit == 0) {
    throw InvalidArgument(fmt::format("matmul: {} columns are too many to add to in bf16", n));
  }
  for (std::int64_t row = 0; row < m; row += rows_that_fit) {
    const std::int64_t rows = std::min(rows_that_fit, m - row);
    const std::int64_t skipped = args.transpose_a ? row : row * k;
    const Tensor out = args.out.slice(row, rows);
    state_->multiply(
        static_cast<const std::byte*>(args.a.raw()) + skipped * size_of(args.a.dtype()), stride_a,
        args, product, DType::kFloat32, rows, false, half, stream);
    kernels::launch_add({product, out.raw(), out.num_elements(), DType::kFloat32, out.dtype()},
                        stream);
  }
}

std::string CublasLt::version() {
  const std::size_t number = cublasLtGetVersion();  // 130002 for 13.0.2
  return fmt::format("{}.{}.{}", number / 10000, number / 100 % 100, number % 100);
}

}  // namespace ringtrain
