// Where the Hopper attention kernels can be used.
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/attention_sm90.h"

namespace ringtrain::kernels {

bool is_sm90_device() {
  int device = 0;
  int major = 0;
  int minor = 0;
  RT_CUDA_CHECK(cudaGetDevice(&device));
  RT_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  RT_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return major == 9 && minor == 0;
}

int num_processors() {
  int device = 0;
  int value = 0;
  RT_CUDA_CHECK(cudaGetDevice(&device));
  RT_CUDA_CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device));
  return value;
}

bool attention_sm90_supports(std::int64_t head_dim) {
  return head_dim > 0 && head_dim <= 128 && head_dim % 8 == 0;
}

}  // namespace ringtrain::kernels
