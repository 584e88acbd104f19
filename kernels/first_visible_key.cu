// The first visible key of every query row: a binary search a thread. Some microseconds.
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/attention.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    first_visible_key_kernel(const __grid_constant__ FirstVisibleKeyArgs args) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= args.rows) return;
  const std::int32_t lowest = args.lowest_visible[row];
  int begin = 0;
  int end = args.keys;
  while (begin < end) {
    const int middle = begin + (end - begin) / 2;
    if (args.key_positions[middle] < lowest) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  args.out[row] = begin;
}

}  // namespace

void launch_first_visible_key(const FirstVisibleKeyArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return;
  const auto blocks = static_cast<unsigned>((args.rows + kThreads - 1) / kThreads);
  first_visible_key_kernel<<<blocks, kThreads, 0, stream>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
