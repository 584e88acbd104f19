#pragma once

#include <cstddef>

/// What stays free beside all that is planned (estimates), both where a choice of remat_block goes
/// by free memory and in `ringtrain plan`: what fits the plan is then chosen by the run as well.
namespace ringtrain {

/// Of each device: kernels and NCCL buffers that are loaded when first used.
inline constexpr std::size_t kDeviceReserve = std::size_t{1} << 30;
/// Of each host: the data pipeline and the file cache.
inline constexpr std::size_t kHostReserve = std::size_t{1} << 30;

}  // namespace ringtrain
