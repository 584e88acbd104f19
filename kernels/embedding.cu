// Embedding lookup and its gradient.
// Forward: one block per row, a copy; memory-bound (ringtrain bench membound).
// Backward: the rows of each token are linked to a list, and one block for each list and range of
// columns adds them. It puts them in ascending order first, a short list by itself, a long one by
// reading all tokens, so the result does not depend on scheduling. Memory-bound unless one token
// fills most of the batch (ringtrain bench membound).
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/tile/numeric.cuh"
#include "kernels/tile/reduce.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/embedding.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kHeld = 2;               // packs of a thread that sums
constexpr int kRowsOfBlock = 4;        // of a block that sums
constexpr int kShortList = kWarpSize;  // rows

/// The entry of a token, or -1 if another rank has it.
template <typename Args>
__device__ std::int64_t entry_of(std::int32_t token, const Args& args) {
  const std::int64_t entry = token - args.first_index;
  return entry >= 0 && entry < args.entries ? entry : -1;
}

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    embedding_kernel(const __grid_constant__ EmbeddingArgs args) {
  using P = Pack<T, kPack>;
  const std::int64_t row = blockIdx.x;
  const std::int64_t packs = args.width / kPack;
  const std::int64_t entry = entry_of(args.tokens[row], args);
  const bool here = entry >= 0;
  const P* from = static_cast<const P*>(args.table) + (here ? entry : 0) * packs;
  P* to = static_cast<P*>(args.out) + row * packs;
  P zero{};
  for (std::int64_t i = threadIdx.x; i < packs; i += kThreads) to[i] = here ? from[i] : zero;
}

/// The rows of each token as a list, so that nothing is sorted: head[entry] is one of them and
/// next[row] another, -1 at the end. Lists are linked in whatever order threads come.
struct TokenLists {
  std::int32_t* head;
  std::int32_t* next;
};

__global__ void __launch_bounds__(kThreads)
    embedding_lists_kernel(const __grid_constant__ EmbeddingBackwardArgs args, TokenLists lists) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= args.rows) return;
  const std::int64_t entry = entry_of(args.tokens[row], args);
  lists.next[row] =
      entry >= 0 ? atomicExch(lists.head + entry, static_cast<std::int32_t>(row)) : -1;
}

/// kHeld packs of a thread in a range of columns.
template <int kPack>
struct ColumnPacks {
  std::int64_t width;
  std::int64_t first;  // column of the first pack; the next is kThreads packs further on

  /// Calls body(column, h) for each pack that is inside of the matrix.
  template <typename Body>
  __device__ void for_each(Body body) const {
#pragma unroll
    for (int h = 0; h < kHeld; ++h) {
      const std::int64_t column = first + h * kThreads * kPack;
      if (column < width) body(column, h);
    }
  }
};

template <int kPack>
__device__ void add_to(Pack<float, kPack>& sum, const Pack<float, kPack>& values) {
#pragma unroll
  for (int e = 0; e < kPack; ++e) sum.at[e] += values.at[e];
}

/// The first warp: puts the rows of a list in ascending order into `sorted` and their number
/// into `count`, or a number above kShortList where there are more.
__device__ void sort_list(const TokenLists& lists, std::int32_t head, std::int32_t* sorted,
                          int* count) {
  const int lane = threadIdx.x;
  std::int32_t mine = 0;
  int length = 0;
#pragma unroll 1
  for (std::int32_t row = head; row >= 0 && length <= kShortList; row = lists.next[row]) {
    if (length == lane) mine = row;
    ++length;
  }
  int rank = 0;
  for (int i = 0; i < min(length, kShortList); ++i) {
    rank += __shfl_sync(0xffffffffu, mine, i) < mine ? 1 : 0;
  }
  if (lane < length) sorted[rank] = mine;
  if (lane == 0) *count = length;
}

/// Puts into `rows` those of the kThreads rows from `begin` on whose token it is, in ascending
/// order, and returns their number. All threads call it.
__device__ int find_rows(const EmbeddingBackwardArgs& args, std::int64_t begin, std::int32_t token,
                         std::int32_t* rows, int* of_warp) {
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const std::int64_t row = begin + threadIdx.x;
  const bool is_mine = row < args.rows && args.tokens[row] == token;
  const unsigned found = __ballot_sync(0xffffffffu, is_mine);
  if (lane == 0) of_warp[warp] = __popc(found);
  __syncthreads();
  int before = __popc(found & ((1u << lane) - 1));
  int total = 0;
  for (int w = 0; w < kThreads / kWarpSize; ++w) {
    if (w < warp) before += of_warp[w];
    total += of_warp[w];
  }
  if (is_mine) rows[before] = static_cast<std::int32_t>(row);
  __syncthreads();
  return total;
}

/// A block sums the lists whose heads are among its rows. It looks for all of them at once, so that
/// this does not hold up the data.
template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    embedding_sum_kernel(const __grid_constant__ EmbeddingBackwardArgs args, TokenLists lists) {
  struct List {
    std::int64_t entry;  // -1 if the row is the head of none
    std::int32_t token;
    std::int32_t next;
  };
  __shared__ List found[kRowsOfBlock];
  __shared__ std::int32_t rows[kThreads];
  __shared__ int length;
  __shared__ int of_warp[kThreads / kWarpSize];
  const std::int64_t first_row = std::int64_t{blockIdx.x} * kRowsOfBlock;
  if (threadIdx.x < kRowsOfBlock) {
    const std::int64_t row = first_row + threadIdx.x;
    List list{-1, 0, 0};
    if (row < args.rows) {
      list = {entry_of(args.tokens[row], args), args.tokens[row], lists.next[row]};
      if (list.entry >= 0 && lists.head[list.entry] != row) list.entry = -1;
    }
    found[threadIdx.x] = list;
  }
  __syncthreads();
  const ColumnPacks<kPack> packs{
      args.width, (std::int64_t{blockIdx.y} * kHeld * kThreads + threadIdx.x) * kPack};
#pragma unroll 1
  for (int r = 0; r < kRowsOfBlock; ++r) {
    const auto [entry, token, next] = found[r];
    if (entry < 0) continue;
    const auto row = static_cast<std::int32_t>(first_row + r);
    float* dtable = args.dtable + entry * args.width;
    Pack<float, kPack> before[kHeld];  // on its way while the rows are looked for and summed
    Pack<float, kPack> sums[kHeld] = {};
    packs.for_each([&](std::int64_t column, int h) {
      before[h] = *reinterpret_cast<const Pack<float, kPack>*>(dtable + column);
    });
    const auto add_row = [&](std::int64_t from) {
      const T* dout = static_cast<const T*>(args.dout) + from * args.width;
      packs.for_each([&](std::int64_t column, int h) {
        add_to(sums[h], unpack(*reinterpret_cast<const Pack<T, kPack>*>(dout + column)));
      });
    };
    const auto add_rows = [&](int count) {
#pragma unroll 4
      for (int i = 0; i < count; ++i) add_row(rows[i]);
    };
    if (next < 0) {
      add_row(row);
    } else {
      __syncthreads();  // `rows` and `length` of the list before have been read
      if (threadIdx.x < kWarpSize) sort_list(lists, row, rows, &length);
      __syncthreads();
      if (length <= kShortList) {
        add_rows(length);
      } else {
        for (std::int64_t begin = 0; begin < args.rows; begin += kThreads) {
          add_rows(find_rows(args, begin, token, rows, of_warp));
        }
      }
    }
    packs.for_each([&](std::int64_t column, int h) {
      add_to(before[h], sums[h]);
      *reinterpret_cast<Pack<float, kPack>*>(dtable + column) = before[h];
    });
  }
}

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
  if (args.rows == 0) return;
  const std::size_t head_bytes = static_cast<std::size_t>(args.entries) * sizeof(std::int32_t);
  const std::size_t next_bytes = static_cast<std::size_t>(args.rows) * sizeof(std::int32_t);
  if (head_bytes + next_bytes > args.scratch_bytes || args.rows > INT32_MAX) {
    throw InvalidArgument("embedding_backward: " + std::to_string(args.rows) + " rows and " +
                          std::to_string(args.entries) + " entries are too many");
  }
  auto* head = static_cast<std::int32_t*>(args.scratch);
  const TokenLists lists{head, head + args.entries};
  RT_CUDA_CHECK(cudaMemsetAsync(lists.head, 0xFF, head_bytes, stream));  // -1
  const auto blocks = static_cast<unsigned>((args.rows + kThreads - 1) / kThreads);
  embedding_lists_kernel<<<blocks, kThreads, 0, stream>>>(args, lists);
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    // As many columns as the wider type, that of the table, has in 16 bytes.
    with_widest_pack<float>(args.width, {args.dout, args.dtable}, [&](auto pack) {
      const std::int64_t columns = std::int64_t{kHeld} * kThreads * pack;
      const dim3 grid(static_cast<unsigned>((args.rows + kRowsOfBlock - 1) / kRowsOfBlock),
                      static_cast<unsigned>((args.width + columns - 1) / columns));
      embedding_sum_kernel<T, pack><<<grid, kThreads, 0, stream>>>(args, lists);
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
