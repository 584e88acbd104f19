// Embedding lookup and its gradient.
// Forward: one block per row, a copy; memory-bound (ringtrain bench membound).
// Backward: the rows are sorted by token with a stable radix sort, then the first block of each
// distinct token and range of columns adds that token's rows in ascending order: deterministic
// without atomics. The time is that of reading dout once unless one token fills most of the batch.
#include <algorithm>
#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "kernels/tile/numeric.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/embedding.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    embedding_kernel(const __grid_constant__ EmbeddingArgs args) {
  using P = Pack<T, kPack>;
  const std::int64_t row = blockIdx.x;
  const std::int64_t packs = args.width / kPack;
  const std::int64_t entry = args.tokens[row] - args.first_index;
  const bool here = entry >= 0 && entry < args.entries;
  const P* from = static_cast<const P*>(args.table) + (here ? entry : 0) * packs;
  P* to = static_cast<P*>(args.out) + row * packs;
  P zero{};
  for (std::int64_t i = threadIdx.x; i < packs; i += kThreads) to[i] = here ? from[i] : zero;
}

// Tokens of other ranks get the key `entries`, which sorts behind all of ours.
__global__ void __launch_bounds__(kThreads)
    embedding_keys_kernel(const std::int32_t* tokens, std::int64_t rows, std::int64_t first_index,
                          std::int64_t entries, std::uint32_t* keys, std::int32_t* row_of) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= rows) return;
  const std::int64_t entry = tokens[row] - first_index;
  const bool here = entry >= 0 && entry < entries;
  keys[row] = static_cast<std::uint32_t>(here ? entry : entries);
  row_of[row] = static_cast<std::int32_t>(row);
}

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    embedding_sum_kernel(const std::uint32_t* keys, const std::int32_t* row_of, int rows,
                         const T* dout, float* dtable, std::int64_t entries, std::int64_t width) {
  const int begin = static_cast<int>(blockIdx.x);
  const std::uint32_t entry = keys[begin];
  if (entry >= entries || (begin > 0 && keys[begin - 1] == entry)) return;
  const std::int64_t i = (std::int64_t{blockIdx.y} * kThreads + threadIdx.x) * kPack;
  if (i >= width) return;
  auto* to = reinterpret_cast<Pack<float, kPack>*>(dtable + entry * width + i);
  Pack<float, kPack> total = *to;
  float sums[kPack] = {};
  int end = begin + 1;
  while (end < rows && keys[end] == entry) ++end;
#pragma unroll 4
  for (int at = begin; at < end; ++at) {
    const auto values = *reinterpret_cast<const Pack<T, kPack>*>(dout + row_of[at] * width + i);
#pragma unroll
    for (int e = 0; e < kPack; ++e) sums[e] += to_float(values.at[e]);
  }
#pragma unroll
  for (int e = 0; e < kPack; ++e) total.at[e] += sums[e];
  *to = total;
}

/// Takes aligned pieces off the scratch memory.
class Scratch {
 public:
  Scratch(void* memory, std::size_t bytes) : next_(static_cast<char*>(memory)), left_(bytes) {}
  template <typename T>
  T* take(std::size_t count) {
    const std::size_t bytes = (count * sizeof(T) + 255) / 256 * 256;
    if (bytes > left_) throw DeviceError("embedding_backward: the workspace is too small");
    char* const taken = next_;
    next_ += bytes;
    left_ -= bytes;
    return reinterpret_cast<T*>(taken);
  }

 private:
  char* next_;
  std::size_t left_;
};

}  // namespace

void launch_embedding(const EmbeddingArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return;
  const auto blocks = static_cast<unsigned>(args.rows);
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    with_widest_pack<T>(args.width, {args.table, args.out}, [&](auto pack) {
      embedding_kernel<T, pack><<<blocks, kThreads, 0, stream>>>(args);
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_embedding_backward(const EmbeddingBackwardArgs& args, cudaStream_t stream) {
  // Four arrays of 4 bytes a row, and about as much again for the sort's own memory.
  const std::int64_t rows_at_a_time =
      std::min<std::int64_t>(static_cast<std::int64_t>(args.scratch_bytes / 32), 1 << 24);
  const int key_bits = std::bit_width(static_cast<std::uint64_t>(args.entries));
  for (std::int64_t done = 0; done < args.rows; done += rows_at_a_time) {
    const auto rows = static_cast<int>(std::min(rows_at_a_time, args.rows - done));
    const auto count = static_cast<std::size_t>(rows);
    Scratch scratch(args.scratch, args.scratch_bytes);
    auto* keys = scratch.take<std::uint32_t>(count);
    auto* sorted_keys = scratch.take<std::uint32_t>(count);
    auto* row_of = scratch.take<std::int32_t>(count);
    auto* sorted_row_of = scratch.take<std::int32_t>(count);
    std::size_t sort_bytes = 0;
    RT_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(nullptr, sort_bytes, keys, sorted_keys, row_of,
                                                  sorted_row_of, rows, 0, key_bits, stream));
    void* sort_memory = scratch.take<char>(sort_bytes);
    const auto blocks = static_cast<unsigned>((rows + kThreads - 1) / kThreads);
    embedding_keys_kernel<<<blocks, kThreads, 0, stream>>>(
        args.tokens + done, rows, args.first_index, args.entries, keys, row_of);
    RT_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(sort_memory, sort_bytes, keys, sorted_keys,
                                                  row_of, sorted_row_of, rows, 0, key_bits,
                                                  stream));
    with_compute_type(args.compute, [&](auto type) {
      using T = decltype(type);
      const auto* dout = static_cast<const T*>(args.dout) + done * args.width;
      // As many columns as the wider type, that of the table, has in 16 bytes.
      with_widest_pack<float>(args.width, {dout, args.dtable}, [&](auto pack) {
        const std::int64_t columns = std::int64_t{kThreads} * pack;
        const dim3 grid(static_cast<unsigned>(rows),
                        static_cast<unsigned>((args.width + columns - 1) / columns));
        embedding_sum_kernel<T, pack><<<grid, kThreads, 0, stream>>>(
            sorted_keys, sorted_row_of, rows, dout, args.dtable, args.entries, args.width);
      });
    });
    RT_CUDA_CHECK(cudaGetLastError());
  }
}

}  // namespace ringtrain::kernels
