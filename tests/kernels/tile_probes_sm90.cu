// A block of one warpgroup a probe; ordinary loads and stores around the instruction in question.
#include <cuda_bf16.h>

#include "kernels/ptx/mbarrier.cuh"
#include "kernels/ptx/shared.cuh"
#include "kernels/ptx/tma.cuh"
#include "kernels/ptx/warpgroup.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/tile/float_panel.cuh"
#include "kernels/tile/online_softmax.cuh"
#include "kernels/tile/panel.cuh"
#include "kernels/tile/pipeline.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/core/error.h"
#include "tests/kernels/tile_probes.h"

namespace ringtrain::probes {
namespace {

using namespace ringtrain::kernels;
using bf16 = __nv_bfloat16;

constexpr int kThreads = 128;
constexpr int kSize = 64;  // rows of a, and what is contracted
constexpr int kSharedBytes = 64 << 10;

/// Device memory with a copy of host values.
class Values {
 public:
  explicit Values(std::size_t size) : size_(size) {
    void* data = nullptr;
    RT_CUDA_CHECK(cudaMalloc(&data, size * sizeof(float)));
    data_ = static_cast<float*>(data);
  }
  explicit Values(const std::vector<float>& values) : Values(values.size()) {
    RT_CUDA_CHECK(cudaMemcpy(data_, values.data(), size_ * sizeof(float), cudaMemcpyHostToDevice));
  }
  ~Values() { cudaFree(data_); }
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;
  float* get() const { return data_; }
  std::vector<float> host() const {
    std::vector<float> values(size_);
    RT_CUDA_CHECK(cudaMemcpy(values.data(), data_, size_ * sizeof(float), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  std::size_t size_;
  float* data_;
};

/// Shared memory of the block, aligned for panels: as address and as pointer.
struct Shared {
  std::uint32_t address;
  std::uint8_t* pointer;
  __device__ Shared() {
    extern __shared__ std::uint8_t raw[];
    const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(raw));
    address = (at + kPanelAlignment - 1) / kPanelAlignment * kPanelAlignment;
    pointer = raw + (address - at);
  }
};

template <typename Tile>
__device__ bf16& element(std::uint8_t* tile, int row, int column) {
  return *reinterpret_cast<bf16*>(tile + Tile::offset(row, column));
}

/// Rows of the fragment of accumulators that this thread holds: (row, column) of element `i`.
__device__ int fragment_row(int i) {
  return static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4 +
         i % 4 / 2 * 8;
}
__device__ int fragment_column(int i) {
  return i / 4 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2;
}

template <Operand kA, Operand kB, int kN>
__global__ void product_kernel(const float* a, const float* b, float* out) {
  using TileA = PanelTile<kSize, kSize>;  // [row][k] or [k][row]
  using TileB = std::conditional_t<kB == Operand::kContractionMajor, PanelTile<kN, kSize>,
                                   PanelTile<kSize, kN>>;
  const Shared shared;
  std::uint8_t* const tile_b = shared.pointer + TileA::kBytes;
  for (int i = threadIdx.x; i < kSize * kSize; i += kThreads) {
    const int row = i / kSize;
    const int k = i % kSize;
    const bool outer = kA == Operand::kOuterMajor;
    element<TileA>(shared.pointer, outer ? k : row, outer ? row : k) = __float2bfloat16_rn(a[i]);
  }
  for (int i = threadIdx.x; i < kSize * kN; i += kThreads) {
    const int k = i / kN;
    const int column = i % kN;
    const bool outer = kB == Operand::kOuterMajor;
    element<TileB>(tile_b, outer ? k : column, outer ? column : k) = __float2bfloat16_rn(b[i]);
  }
  float held[kSize / 2];  // a, as accumulators hold it
  for (int i = 0; i < kSize / 2; ++i) held[i] = a[fragment_row(i) * kSize + fragment_column(i)];
  std::uint32_t packed[kSize / 4];
  pack_operand(packed, held);
  ptx::fence_proxy_async_shared();
  __syncthreads();

  constexpr auto major = [](Operand operand) {
    return operand == Operand::kOuterMajor ? ptx::Major::kOuter : ptx::Major::kContraction;
  };
  const OperandDescriptor a_at = TileA::descriptor(shared.address);
  const OperandDescriptor b_at = TileB::descriptor(shared.address + TileA::kBytes);
  float d[kN / 2];
  ptx::wgmma_fence();
#pragma unroll
  for (int k = 0; k < kSize / 16; ++k) {
    const std::uint64_t b_step =
        b_at.at(kB == Operand::kOuterMajor ? TileB::row_step(k) : TileB::column_step(k));
    if constexpr (kA == Operand::kRegisters) {
      ptx::wgmma_m64k16<major(kB)>(d, packed[4 * k], packed[4 * k + 1], packed[4 * k + 2],
                                   packed[4 * k + 3], b_step, k != 0);
    } else {
      const std::uint64_t a_step =
          a_at.at(kA == Operand::kOuterMajor ? TileA::row_step(k) : TileA::column_step(k));
      ptx::wgmma_m64k16<major(kA), major(kB)>(d, a_step, b_step, k != 0);
    }
  }
  ptx::wgmma_commit_group();
  ptx::wgmma_wait_group<0>();
  for (int i = 0; i < kN / 2; ++i) out[fragment_row(i) * kN + fragment_column(i)] = d[i];
}

template <bool kTransposed>
__global__ void store_kernel(const float* values, float* out) {
  using Tile = PanelTile<kSize, kSize>;
  const Shared shared;
  float held[kSize / 2];
  for (int i = 0; i < kSize / 2; ++i) {
    held[i] = values[fragment_row(i) * kSize + fragment_column(i)];
  }
  std::uint32_t packed[kSize / 4];
  pack_operand(packed, held);
  const int lane = threadIdx.x % 32;
  const int warp_row = threadIdx.x / 32 * 16;
#pragma unroll
  for (int k = 0; k < kSize / 16; ++k) {
    const std::uint32_t* part = packed + 4 * k;
    if constexpr (kTransposed) {
      const int row = 16 * k + lane / 16 * 8 + lane % 8;
      const int column = warp_row + lane / 8 % 2 * 8;
      ptx::stmatrix_x4_trans(shared.address + Tile::offset(row, column), part[0], part[1], part[2],
                             part[3]);
    } else {
      const int row = warp_row + lane % 16;
      const int column = 16 * k + lane / 16 * 8;
      ptx::stmatrix_x4(shared.address + Tile::offset(row, column), part[0], part[1], part[2],
                       part[3]);
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kSize * kSize; i += kThreads) {
    out[i] = __bfloat162float(element<Tile>(shared.pointer, i / kSize, i % kSize));
  }
}

__global__ void load_kernel(const __grid_constant__ CUtensorMap map, int rows, int column,
                            int token, int head, float* out) {
  using Tile = PanelTile<kSize, kSize>;  // rows beyond `rows` are not loaded
  __shared__ alignas(8) std::uint64_t storage[2];
  const Shared shared;
  const Pipeline<1> pipe{static_cast<std::uint32_t>(__cvta_generic_to_shared(storage))};
  RingPosition<1> at;
  if (threadIdx.x == 0) {
    pipe.init(1);
    ptx::fence_mbarrier_init();
    pipe.producer_acquire(at, static_cast<std::uint32_t>(rows) * kPanelRowBytes);
    ptx::tma_load_4d(shared.address, &map, pipe.full(0), column, token, head, 0);
  }
  __syncthreads();
  pipe.consumer_wait(at);
  for (int i = threadIdx.x; i < rows * kSize; i += kThreads) {
    out[i] = __bfloat162float(element<Tile>(shared.pointer, i / kSize, i % kSize));
  }
}

__global__ void reduce_kernel(const __grid_constant__ CUtensorMap map, const float* values,
                              int column, int token, int head) {
  using Tile = FloatPanelTile<kSize, kSize>;
  const Shared shared;
  for (int i = 0; i < kSize / 2; i += 2) {
    const int row = fragment_row(i);
    const int first = fragment_column(i);
    ptx::st_shared_v2(shared.address + Tile::offset(row, first), values[row * kSize + first],
                      values[row * kSize + first + 1]);
  }
  ptx::fence_proxy_async_shared();
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int panel = 0; panel < Tile::kPanels; ++panel) {
    ptx::tma_reduce_add_4d(&map, shared.address + panel * Tile::kPanelBytes,
                           column + panel * Tile::kPanelColumns, token, head, 0);
  }
  ptx::bulk_commit_group();
  ptx::bulk_wait_group<0>();
}

template <typename Kernel, typename... Args>
void run(Kernel kernel, Args... args) {
  RT_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  kernel<<<1, kThreads, kSharedBytes>>>(args...);
  RT_CUDA_CHECK(cudaGetLastError());
  RT_CUDA_CHECK(cudaDeviceSynchronize());
}

template <Operand kA, Operand kB>
void run_product(int n, const float* a, const float* b, float* out) {
  if (n == 128) return run(product_kernel<kA, kB, 128>, a, b, out);
  if (n == 64) return run(product_kernel<kA, kB, 64>, a, b, out);
  throw InvalidArgument("a probe of 64 or 128 columns");
}

}  // namespace

std::vector<float> product(Operand a_from, Operand b_from, int n, const std::vector<float>& a,
                           const std::vector<float>& b) {
  const Values a_values(a), b_values(b), out(static_cast<std::size_t>(kSize * n));
  const auto with_b = [&]<Operand kB>() {
    switch (a_from) {
      case Operand::kRegisters:
        return run_product<Operand::kRegisters, kB>(n, a_values.get(), b_values.get(), out.get());
      case Operand::kContractionMajor:
        return run_product<Operand::kContractionMajor, kB>(n, a_values.get(), b_values.get(),
                                                           out.get());
      case Operand::kOuterMajor:
        return run_product<Operand::kOuterMajor, kB>(n, a_values.get(), b_values.get(), out.get());
    }
  };
  if (b_from == Operand::kOuterMajor) {
    with_b.template operator()<Operand::kOuterMajor>();
  } else {
    with_b.template operator()<Operand::kContractionMajor>();
  }
  return out.host();
}

std::vector<float> stored(bool transposed, const std::vector<float>& values) {
  const Values in(values), out(values.size());
  run(transposed ? store_kernel<true> : store_kernel<false>, in.get(), out.get());
  return out.host();
}

std::vector<float> loaded(const CUtensorMap& map, int rows, int column, int token, int head) {
  const Values out(static_cast<std::size_t>(rows * kSize));
  run(load_kernel, map, rows, column, token, head, out.get());
  return out.host();
}

void reduce_add(const CUtensorMap& map, const std::vector<float>& values, int column, int token,
                int head) {
  const Values in(values);
  run(reduce_kernel, map, in.get(), column, token, head);
}

}  // namespace ringtrain::probes
