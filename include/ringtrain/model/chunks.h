#pragma once

#include <algorithm>
#include <cstdint>

#include "ringtrain/parallel/context.h"

namespace ringtrain {

/// Calls body(begin, count) for the rows [0, rows), at most `chunk_size` at a time. On the meta
/// device, unless someone listens, only the first and the last are called: those between ask for
/// the memory of the first, so a plan takes no longer for a longer sequence.
template <typename Body>
void for_each_chunk(const Context& context, std::int64_t rows, std::int64_t chunk_size,
                    const Body& body) {
  const std::int64_t last = (rows - 1) / chunk_size * chunk_size;
  const bool skips = context.device.type() == DeviceType::kMeta && context.observer == nullptr;
  for (std::int64_t begin = 0; begin < rows; begin += chunk_size) {
    if (skips && begin > 0) begin = std::max(begin, last);
    body(begin, std::min(chunk_size, rows - begin));
  }
}

}  // namespace ringtrain
