#include "kernels/gemm_sm90.cuh"

namespace ringtrain::kernels {

template void run_gemm_sm90<ptx::Major::kOuter, ptx::Major::kOuter, GemmEpilogue::kFloat>(
    const GemmSm90Params&, int, cudaStream_t);

}  // namespace ringtrain::kernels
