#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "matmul.h"
#include "ringtrain/ops/backend.h"

namespace ringtrain {

/// swiglu_matmul and its gradient: one kernel each where the GPU, the type and the shapes allow,
/// else products by cuBLASLt, a block of rows at a time, whose results lie in the workspace.
class CudaSwigluMatmul {
 public:
  explicit CudaSwigluMatmul(CublasLt& matmul);

  /// "sm90 wgmma (bf16), cuBLASLt"
  std::string description() const;

  void forward(const SwigluMatmulArgs& args, const CublasLt::Workspace& workspace,
               cudaStream_t stream);
  void backward(const SwigluMatmulBackwardArgs& args, const CublasLt::Workspace& workspace,
                cudaStream_t stream);

 private:
  CublasLt& matmul_;
  bool is_hopper_;
};

}  // namespace ringtrain
