#include "ringtrain/parallel/parameter_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

// 256 bytes of bf16: what vectorised copies and cuBLAS like best.
constexpr std::int64_t kAlignment = 128;

std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

Shape slice_shape(const std::string& name, const Shape& shape, TpSplit split, int tp_size) {
  if (split == TpSplit::kReplicated) return shape;
  if (split == TpSplit::kRows) {
    return shape.with_outermost(round_up(shape[0], tp_size) / tp_size);
  }
  if (shape.rank() != 2 || shape[1] % tp_size != 0) {
    throw InvalidArgument(
        fmt::format("columns of {} {} cannot be cut into tp={} equal parts; "
                    "choose another tp in --mesh_dim",
                    name, shape.to_string(), tp_size));
  }
  return {shape[0], shape[1] / tp_size};
}

// Elements of the slice before its padding rows.
std::int64_t num_real_elements(const Segment& segment, int tp_rank, int tp_size) {
  if (segment.split != TpSplit::kRows) return segment.num_elements();
  const std::int64_t rows = segment.local_shape[0];
  if (rows == 0) return 0;
  return tp_slice(segment, tp_rank, tp_size).count * (segment.num_elements() / rows);
}

}  // namespace

const Segment& ParameterUnit::segment(const std::string& tensor) const {
  for (const Segment& candidate : segments) {
    if (candidate.name == tensor) return candidate;
  }
  throw InvalidArgument(fmt::format("parameter unit '{}' has no tensor '{}'", name, tensor));
}

void ParameterTable::begin_unit(std::string name) {
  finish();
  units_.push_back({.name = std::move(name), .segments = {}, .num_elements = 0});
}

void ParameterTable::add(std::string name, Shape shape, TpSplit split, bool is_norm, bool follows) {
  if (units_.empty()) begin_unit("parameters");
  ParameterUnit& unit = units_.back();
  const Shape local_shape = slice_shape(name, shape, split, tp_size_);
  const std::int64_t offset = follows ? unit.num_elements : round_up(unit.num_elements, kAlignment);
  unit.num_elements = offset + local_shape.num_elements();
  unit.segments.push_back({.name = std::move(name),
                           .index = num_tensors_++,
                           .shape = shape,
                           .split = split,
                           .local_shape = local_shape,
                           .offset = offset,
                           .is_norm = is_norm});
}

void ParameterTable::finish() {
  if (units_.empty()) return;
  // Every shard is aligned too, so that a rank's part of a gathered buffer is a legal tensor.
  ParameterUnit& unit = units_.back();
  unit.num_elements = round_up(unit.num_elements, kAlignment * num_shards_);
}

std::vector<SegmentRun> segment_runs(const ParameterTable& table, const ParameterUnit& unit,
                                     int shard) {
  const std::int64_t shard_size = table.shard_elements(unit);
  const std::int64_t shard_first = shard * shard_size;
  std::vector<SegmentRun> runs;
  for (const Segment& segment : unit.segments) {
    const std::int64_t real = num_real_elements(segment, table.tp_rank(), table.tp_size());
    const std::int64_t begin = std::max(segment.offset, shard_first);
    const std::int64_t end = std::min(segment.offset + real, shard_first + shard_size);
    if (begin >= end) continue;
    runs.push_back({.unit = &unit,
                    .segment = &segment,
                    .shard_begin = begin - shard_first,
                    .segment_begin = begin - segment.offset,
                    .count = end - begin});
  }
  return runs;
}

TpSlice tp_slice(const Segment& segment, int tp_rank, int tp_size) {
  switch (segment.split) {
    case TpSplit::kReplicated:
      break;
    case TpSplit::kColumns: {
      const std::int64_t columns = segment.shape[-1] / tp_size;
      return {.first = tp_rank * columns, .count = columns};
    }
    case TpSplit::kRows: {
      const std::int64_t rows = round_up(segment.shape[0], tp_size) / tp_size;
      const std::int64_t first = std::min(tp_rank * rows, segment.shape[0]);
      return {.first = first, .count = std::min(rows, segment.shape[0] - first)};
    }
  }
  return {.first = 0, .count = segment.shape.rank() == 0 ? 1 : segment.shape[0]};
}

}  // namespace ringtrain
