// clock: one thread waits, on a stream, for %globaltimer to come to a time.
#include "kernels/ptx/time.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/clock.h"

namespace ringtrain::kernels {
namespace {

constexpr std::uint32_t kRestNs = 200;

__global__ void start_clock_kernel(std::uint32_t* start) {
  *start = ptx::globaltimer_lo();
}

__global__ void wait_for_clock_kernel(const std::uint32_t* start, std::uint32_t ns) {
  const std::uint32_t since = *start;
  while (ptx::globaltimer_lo() - since < ns) ptx::nanosleep(kRestNs);
}

}  // namespace

void launch_start_clock(std::uint32_t* start, cudaStream_t stream) {
  start_clock_kernel<<<1, 1, 0, stream>>>(start);
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_wait_for_clock(const std::uint32_t* start, std::uint32_t ns, cudaStream_t stream) {
  wait_for_clock_kernel<<<1, 1, 0, stream>>>(start, ns);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
