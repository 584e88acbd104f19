#pragma once

#include <cstdint>
#include <vector>

#include "ringtrain/parallel/parameter_table.h"

namespace ringtrain {

/// Elements that lie together both in a whole tensor (row-major) and in a piece of it.
struct TensorRange {
  std::int64_t whole_begin;
  std::int64_t piece_begin;
  std::int64_t count;
  bool operator==(const TensorRange&) const = default;
};

/// Where a piece, elements [begin, begin + count) of a tp slice, lies in the whole tensor; in
/// ascending order. One range unless columns are cut, then one a row.
std::vector<TensorRange> tensor_ranges(const Shape& whole, TpSplit split, TpSlice slice,
                                       std::int64_t begin, std::int64_t count);
/// The same for a run of a rank's shard.
std::vector<TensorRange> tensor_ranges(const SegmentRun& run, int tp_rank, int tp_size);

/// Elements that two pieces of a tensor share: those at `from` of the first are those at `to` of
/// the second. Copies that continue each other are one.
struct RangeCopy {
  std::int64_t from;
  std::int64_t to;
  std::int64_t count;
  bool operator==(const RangeCopy&) const = default;
};
std::vector<RangeCopy> overlap(const std::vector<TensorRange>& from,
                               const std::vector<TensorRange>& to);

}  // namespace ringtrain
