#include "kernels/attention_backward_sm90.cuh"

namespace ringtrain::kernels {

template void run_attention_backward_sm90<64, true>(const AttentionBackwardSm90Params&,
                                                    cudaStream_t);

}  // namespace ringtrain::kernels
