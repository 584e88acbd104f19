#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>

#include "ringtrain/ops/backend.h"

namespace ringtrain {

/// Matrix products through cuBLASLt: fp32 without TF32, bf16 with fp32 accumulation. The
/// algorithm of a problem (sizes, types, transpositions, alignment) is chosen at its first call
/// and kept, so equal problems give equal bits.
class CublasLt {
 public:
  /// Errors: DeviceError if the library cannot start.
  CublasLt();
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  /// Device memory aligned to 256 bytes that no work on another stream uses.
  struct Workspace {
    void* data;
    std::size_t bytes;
  };
  /// Errors: DeviceError with the problem if cuBLASLt has no algorithm for it.
  void matmul(const MatmulArgs& args, const Workspace& workspace, cudaStream_t stream);
  /// "13.0.2"
  static std::string version();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ringtrain
