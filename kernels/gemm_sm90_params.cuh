#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/ptx/wgmma.cuh"
#include "kernels/tile/item_counter.cuh"

/// What the launchers and the kernels of gemm_sm90 share.
namespace ringtrain::kernels {

inline constexpr int kGemmTileM = 128;
inline constexpr int kGemmTileN = 256;  // columns of sums
inline constexpr int kGemmTileK = 64;

/// The order of tiles: bands of kBand rows of tiles, column by column, so that what the blocks of
/// the grid read at a time stays in L2.
struct GemmTileOrder {
  static constexpr int kBand = 16;
  int rows;     // of tiles
  int columns;  // of tiles
  int num_tiles;

  struct Tile {
    int row;
    int column;
  };
  __device__ Tile at(int item) const {
    const int band = item / (kBand * columns);
    const int first = band * kBand;
    const int height = min(kBand, rows - first);
    const int within = item - first * columns;
    return {first + within % height, within / height};
  }
};

/// Tensor maps have boxes of one stage's part of a or b, or of one panel of 64 rows.
struct GemmSm90Params {
  CUtensorMap a;
  CUtensorMap b;
  CUtensorMap out;     // by epilogue: out; h; dgate|dup
  CUtensorMap second;  // swiglu: gate|up, written; its gradient: h, written
  CUtensorMap read;    // swiglu's gradient: gate|up; an addend: itself
  GemmTileOrder order;
  ItemCounter* counter;
  int k_blocks;      // of kGemmTileK, the last may be ragged
  bool a_whole;      // where K is not contiguous: a box holds all panels of the tile, not one
  bool b_whole;      // the same of b
  bool has_out;      // swiglu: h is wanted
  bool has_second;   // what `second` is for is wanted
  bool accumulates;  // fp32: adds to out
};

/// What happens to the sums of a tile; the kernel is in gemm_sm90.cuh, these in
/// gemm_sm90_epilogue.cuh.
enum class GemmEpilogue {
  kStoreBf16,       // out = sums
  kAddBf16,         // out = sums + addend, each rounded
  kFloat,           // out = sums, or that added to it
  kSwiglu,          // columns 0-127 of sums are gate, 128-255 up
  kSwigluGradient,  // sums are the gradient of h
};

/// Launches a block on each of `blocks` processors. kMajorA and kMajorB say whether K is contiguous
/// in memory. Instantiated, one to a file, for what the launchers call.
template <ptx::Major kMajorA, ptx::Major kMajorB, GemmEpilogue kEpilogue>
void run_gemm_sm90(const GemmSm90Params& params, int blocks, cudaStream_t stream);

}  // namespace ringtrain::kernels
