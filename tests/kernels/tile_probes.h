#pragma once

#include <cuda.h>

#include <cstdint>
#include <vector>

/// One instruction or tile of the Hopper kernels at a time, on one block; host memory in and out.
/// Values must be integers that bf16 holds exactly. Errors: DeviceError.
namespace ringtrain::probes {

enum class Operand { kRegisters, kContractionMajor, kOuterMajor };

/// a [64, 64] . b [64, n] by wgmma, row-major in and out: every operand from its memory layout.
/// n is 64 or 128; b is not in registers.
std::vector<float> product(Operand a_from, Operand b_from, int n, const std::vector<float>& a,
                           const std::vector<float>& b);

/// The [64, 64] tile that stmatrix leaves in shared memory of accumulators that hold `values`
/// [64, 64]; transposed: of their transpose.
std::vector<float> stored(bool transposed, const std::vector<float>& values);

/// A box of `rows` x 64 bf16 as the copy engine loads it from `map` at these coordinates.
std::vector<float> loaded(const CUtensorMap& map, int rows, int column, int token, int head);

/// Adds `values` [64, 64] to the fp32 tensor of `map` (boxes of 64 x 32) at these coordinates.
void reduce_add(const CUtensorMap& map, const std::vector<float>& values, int column, int token,
                int head);

}  // namespace ringtrain::probes
