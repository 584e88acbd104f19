#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

#include "ringtrain/ops/backend.h"

namespace ringtrain {

/// Attention by the fastest kernels that this GPU and a call's type, head_dim and mask allow, or by
/// those that RINGTRAIN_ATTENTION names.
class CudaAttention {
 public:
  /// `deterministic` as in make_cuda_backend. Errors: InvalidArgument if the environment names
  /// kernels that this GPU does not run.
  explicit CudaAttention(bool deterministic);

  /// "sm90 wgmma (bf16, head_dim up to 128), portable mma.sync (bf16), ..."
  std::string description() const;

  /// Device memory aligned to 256 bytes that no work on another stream uses; calls of which it has
  /// too little take slower kernels.
  struct Workspace {
    char* data;
    std::size_t bytes;
  };
  void forward(const AttentionForwardArgs& args, const Workspace& workspace,
               cudaStream_t stream) const;
  void backward(const AttentionBackwardArgs& args, const Workspace& workspace,
                cudaStream_t stream) const;
  /// As Backend::attention_overlaps.
  bool overlaps(const Tensor& query, const AttentionMask& mask) const;

 private:
  /// True if the Hopper kernels take the call.
  bool uses_sm90(const Tensor& query, const AttentionMask& mask, const Workspace& workspace) const;
  bool backward_sm90(const AttentionBackwardArgs& args, const Workspace& workspace,
                     cudaStream_t stream) const;

  bool deterministic_;
  bool has_sm90_;
};

}  // namespace ringtrain
