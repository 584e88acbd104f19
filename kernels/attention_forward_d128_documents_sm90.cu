#include "kernels/attention_forward_sm90.cuh"

namespace ringtrain::kernels {

template void run_attention_forward_sm90<128, true>(const AttentionForwardSm90Params&, int,
                                                    cudaStream_t);

}  // namespace ringtrain::kernels
