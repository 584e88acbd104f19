// transpose: a grid-stride loop over the words of the output, the widest that all rows are aligned
// to (16 bytes for heads of every usual size). A warp writes neighbouring words.
// Memory-bound: the target is the device's copy bandwidth.
#include <algorithm>
#include <cstddef>
#include <limits>

#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/transpose.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 132 * 32;  // enough to fill any GPU; the loop does the rest

// Index: 32 bits wide where they suffice, because a word costs two divisions.
template <typename Word, typename Index>
__global__ void __launch_bounds__(kThreads)
    transpose_kernel(const Word* in, Word* out, Index outer, Index inner, Index row_words) {
  const Index words = outer * inner * row_words;
  const Index stride = Index{gridDim.x} * kThreads;
  for (Index i = Index{blockIdx.x} * kThreads + threadIdx.x; i < words; i += stride) {
    const Index row = i / row_words;
    const Index b = row / outer;
    const Index a = row - b * outer;
    out[i] = in[(a * inner + b) * row_words + (i - row * row_words)];
  }
}

template <typename Word>
void transpose_words(const TransposeArgs& args, cudaStream_t stream) {
  const std::int64_t row_words = args.row_bytes / static_cast<std::int64_t>(sizeof(Word));
  const std::int64_t words = args.outer * args.inner * row_words;
  const auto blocks =
      static_cast<unsigned>(std::min((words + kThreads - 1) / kThreads, kMaxBlocks));
  const auto launch = [&](auto index) {
    using Index = decltype(index);
    transpose_kernel<Word, Index><<<blocks, kThreads, 0, stream>>>(
        static_cast<const Word*>(args.in), static_cast<Word*>(args.out),
        static_cast<Index>(args.outer), static_cast<Index>(args.inner),
        static_cast<Index>(row_words));
  };
  // Half of the range, so that the loop's last addition cannot wrap around.
  if (words <= std::numeric_limits<std::int32_t>::max()) {
    launch(std::uint32_t{});
  } else {
    launch(std::uint64_t{});
  }
  RT_CUDA_CHECK(cudaGetLastError());
}

bool divides_all(std::int64_t word, const TransposeArgs& args) {
  const auto aligned = [&](const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer) % static_cast<std::uintptr_t>(word) == 0;
  };
  return args.row_bytes % word == 0 && aligned(args.in) && aligned(args.out);
}

}  // namespace

void launch_transpose(const TransposeArgs& args, cudaStream_t stream) {
  if (args.outer * args.inner * args.row_bytes == 0) return;
  if (divides_all(16, args)) {
    transpose_words<uint4>(args, stream);
  } else if (divides_all(4, args)) {
    transpose_words<std::uint32_t>(args, stream);
  } else {
    transpose_words<std::uint16_t>(args, stream);
  }
}

}  // namespace ringtrain::kernels
