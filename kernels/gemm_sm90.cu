// The launchers of the Hopper matrix products: tensor maps, the order of tiles and the grid. The
// kernel is in gemm_sm90.cuh; bench/gemm_sm90 checks and times it.
#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "kernels/gemm_sm90_params.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/backend/tensor_map.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/gemm_sm90.h"

namespace ringtrain::kernels {
namespace {

__device__ ItemCounter tile_counter;

using ptx::Major;
using Run = void (*)(const GemmSm90Params&, int, cudaStream_t);

constexpr int kPanelRows = 64;     // of a warpgroup
constexpr int kPanelColumns = 64;  // of bf16

bool are_aligned(std::initializer_list<const void*> pointers) {
  return std::ranges::all_of(pointers, [](const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
  });
}

/// Sizes, the first of them free, as the copy engine and 32-bit coordinates allow.
bool are_addressable(std::int64_t rows, std::initializer_list<std::int64_t> contiguous) {
  const auto fits = [](std::int64_t size) { return size > 0 && size < INT32_MAX / 2; };
  return fits(rows) && std::ranges::all_of(contiguous, [&](std::int64_t size) {
           return fits(size) && size % 8 == 0;
         });
}

void require(bool is_supported, const char* what) {
  if (!is_supported) {
    throw InvalidArgument(std::string(what) + ": the kernel cannot address these tensors");
  }
}

/// An operand with `outer` rows, contiguous along K; boxes of `tile` rows.
CUtensorMap contraction_map(const void* base, std::int64_t outer, std::int64_t k, int tile) {
  return encode_panel_map({base, 1, outer, outer, 1, k, tile});
}

/// An operand with `outer` columns; boxes of `tile` columns if `whole`, else of one panel.
CUtensorMap outer_map(const void* base, std::int64_t outer, std::int64_t k, int tile, bool whole) {
  PanelMap map{base, 1, k, k, 1, outer, kGemmTileK};
  if (whole) {
    map.heads = outer / kPanelColumns;
    map.head_dim = kPanelColumns;
    map.box_heads = tile / kPanelColumns;
  }
  return encode_panel_map(map);
}

/// A matrix that the epilogue reads or writes.
CUtensorMap result_map(const void* base, std::int64_t rows, std::int64_t columns,
                       DType dtype = DType::kBFloat16) {
  return encode_panel_map({base, 1, rows, rows, 1, columns, kPanelRows, dtype});
}

/// gate|up: two halves side by side.
CUtensorMap pair_map(const void* base, std::int64_t rows, std::int64_t width) {
  return encode_panel_map({base, 1, rows, rows, 2, width, kPanelRows});
}

/// Fills in what depends on the sizes alone and launches.
void run_tiles(Run run, GemmSm90Params& params, std::int64_t m, std::int64_t n, std::int64_t k,
               int tile_columns, int max_blocks, cudaStream_t stream) {
  const std::int64_t rows = (m + kGemmTileM - 1) / kGemmTileM;
  const std::int64_t columns = (n + tile_columns - 1) / tile_columns;
  if (rows * columns > INT32_MAX / 2) {
    throw InvalidArgument("a product of " + std::to_string(m) + " x " + std::to_string(n) +
                          " is too large for a launch");
  }
  params.order = {static_cast<int>(rows), static_cast<int>(columns),
                  static_cast<int>(rows * columns)};
  params.k_blocks = static_cast<int>((k + kGemmTileK - 1) / kGemmTileK);
  int device = 0;
  int blocks = 0;
  RT_CUDA_CHECK(cudaGetDevice(&device));
  RT_CUDA_CHECK(cudaDeviceGetAttribute(&blocks, cudaDevAttrMultiProcessorCount, device));
  blocks = std::min(blocks, params.order.num_tiles);
  if (max_blocks > 0) blocks = std::min(blocks, max_blocks);
  void* counter = nullptr;
  RT_CUDA_CHECK(cudaGetSymbolAddress(&counter, tile_counter));
  params.counter = static_cast<ItemCounter*>(counter);
  run(params, blocks, stream);
}

/// The kernel for the operands and the result, or null.
Run kernel_for(const GemmSm90Args& args) {
  constexpr Major kK = Major::kContraction;
  constexpr Major kMN = Major::kOuter;
  const bool is_fp32 = args.out_type == DType::kFloat32;
  if (!args.transpose_a && args.transpose_b && !is_fp32 && !args.accumulate) {
    return args.addend != nullptr ? run_gemm_sm90<kK, kK, GemmEpilogue::kAddBf16>
                                  : run_gemm_sm90<kK, kK, GemmEpilogue::kStoreBf16>;
  }
  if (!args.transpose_a && !args.transpose_b && !is_fp32 && args.addend == nullptr &&
      !args.accumulate) {
    return run_gemm_sm90<kK, kMN, GemmEpilogue::kStoreBf16>;
  }
  if (args.transpose_a && !args.transpose_b && is_fp32 && args.addend == nullptr) {
    return run_gemm_sm90<kMN, kMN, GemmEpilogue::kFloat>;
  }
  return nullptr;
}

}  // namespace

bool gemm_sm90_supports(const GemmSm90Args& args) {
  if (kernel_for(args) == nullptr || !are_aligned({args.a, args.b, args.addend, args.out}))
    return false;
  if (args.transpose_a) return are_addressable(args.k, {args.m, args.n});
  return are_addressable(args.m, {args.n, args.k});
}

void launch_gemm_sm90(const GemmSm90Args& args, cudaStream_t stream) {
  require(gemm_sm90_supports(args), "gemm_sm90");
  GemmSm90Params params{};
  params.a_whole = args.m % kPanelColumns == 0;
  params.b_whole = args.n % kPanelColumns == 0;
  params.a = args.transpose_a ? outer_map(args.a, args.m, args.k, kGemmTileM, params.a_whole)
                              : contraction_map(args.a, args.m, args.k, kGemmTileM);
  params.b = args.transpose_b ? contraction_map(args.b, args.n, args.k, kGemmTileN)
                              : outer_map(args.b, args.n, args.k, kGemmTileN, params.b_whole);
  params.out = result_map(args.out, args.m, args.n, args.out_type);
  params.accumulates = args.accumulate;
  if (args.addend != nullptr) {
    params.read = result_map(args.addend, args.m, args.n, args.out_type);
  }
  run_tiles(kernel_for(args), params, args.m, args.n, args.k, kGemmTileN, args.max_blocks, stream);
}

bool swiglu_gemm_sm90_supports(const SwigluGemmSm90Args& args) {
  return are_aligned({args.x, args.weight, args.gate_up, args.out}) &&
         are_addressable(args.rows, {args.width, args.depth});
}

void launch_swiglu_gemm_sm90(const SwigluGemmSm90Args& args, cudaStream_t stream) {
  require(swiglu_gemm_sm90_supports(args) && (args.gate_up != nullptr || args.out != nullptr),
          "swiglu_gemm_sm90");
  constexpr int kColumns = kGemmTileN / 2;
  GemmSm90Params params{};
  params.a = contraction_map(args.x, args.rows, args.depth, kGemmTileM);
  // Gate and up as two matrices, so that a tile of gate ends where gate does.
  params.b = encode_panel_map({args.weight, 2, args.width, args.width, 1, args.depth, kColumns});
  params.has_out = args.out != nullptr;
  params.has_second = args.gate_up != nullptr;
  if (params.has_out) params.out = result_map(args.out, args.rows, args.width);
  if (params.has_second) params.second = pair_map(args.gate_up, args.rows, args.width);
  run_tiles(run_gemm_sm90<Major::kContraction, Major::kContraction, GemmEpilogue::kSwiglu>, params,
            args.rows, args.width, args.depth, kColumns, args.max_blocks, stream);
}

bool swiglu_gemm_backward_sm90_supports(const SwigluGemmBackwardSm90Args& args) {
  return are_aligned({args.dout, args.weight, args.gate_up, args.dgate_up, args.activation}) &&
         are_addressable(args.rows, {args.width, args.depth});
}

void launch_swiglu_gemm_backward_sm90(const SwigluGemmBackwardSm90Args& args, cudaStream_t stream) {
  require(swiglu_gemm_backward_sm90_supports(args), "swiglu_gemm_backward_sm90");
  GemmSm90Params params{};
  params.b_whole = args.width % kPanelColumns == 0;
  params.a = contraction_map(args.dout, args.rows, args.depth, kGemmTileM);
  params.b = outer_map(args.weight, args.width, args.depth, kGemmTileN, params.b_whole);
  params.read = pair_map(args.gate_up, args.rows, args.width);
  params.out = pair_map(args.dgate_up, args.rows, args.width);
  params.has_second = args.activation != nullptr;
  if (params.has_second) params.second = result_map(args.activation, args.rows, args.width);
  run_tiles(run_gemm_sm90<Major::kContraction, Major::kOuter, GemmEpilogue::kSwigluGradient>,
            params, args.rows, args.width, args.depth, kGemmTileN, args.max_blocks, stream);
}

}  // namespace ringtrain::kernels
