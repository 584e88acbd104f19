#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

namespace ringtrain::bench {

/// Normal values from a hash of (seed, index), times `scale`.
void fill_normal(__nv_bfloat16* out, std::size_t size, std::uint32_t seed, float scale);

}  // namespace ringtrain::bench
