#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "matmul.h"
#include "ringtrain/core/environment.h"
#include "ringtrain/kernels/gemm_sm90.h"
#include "ringtrain/ops/backend.h"

namespace ringtrain {

/// Whether the Hopper kernel was measured to be faster than cuBLASLt on average over such products
/// (`bench_gemm_sm90 products` prints the measurement beside the choice).
bool is_sm90_faster(const kernels::GemmSm90Args& args);

/// Matrix products, SwiGLU's among them, by Hopper kernels or by cuBLASLt: the faster one as
/// measured, or what RINGTRAIN_MATMUL names.
class CudaMatmul {
 public:
  /// Errors: InvalidArgument if the environment names kernels that this GPU does not run.
  CudaMatmul();

  /// "sm90 wgmma (bf16), cuBLASLt 13.0.2"
  std::string description() const;

  void matmul(const MatmulArgs& args, const CublasLt::Workspace& workspace, cudaStream_t stream);
  /// One kernel, or products whose results lie in the workspace, a block of rows at a time.
  void swiglu(const SwigluMatmulArgs& args, const CublasLt::Workspace& workspace,
              cudaStream_t stream);
  void swiglu_backward(const SwigluMatmulBackwardArgs& args, const CublasLt::Workspace& workspace,
                       cudaStream_t stream);

 private:
  CublasLt cublaslt_;
  MatmulKernels wanted_;
  bool has_sm90_;
};

}  // namespace ringtrain
