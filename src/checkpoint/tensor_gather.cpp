#include "tensor_gather.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "ringtrain/parallel/tensor_ranges.h"

namespace ringtrain {
namespace {

/// What precedes the floats of a message: which elements of the sender's tp slice they are.
struct PieceHeader {
  std::int64_t begin;
  std::int64_t count;
};

std::string pack(const PieceHeader& header, const std::vector<float>& values) {
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  return bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

void unpack(const std::string& bytes, const Segment& segment, int tp_rank, int tp_size,
            std::vector<float>& whole) {
  PieceHeader header{};
  std::memcpy(&header, bytes.data(), sizeof(header));
  for (const TensorRange& range :
       tensor_ranges(segment.shape, segment.split, tp_slice(segment, tp_rank, tp_size),
                     header.begin, header.count)) {
    std::memcpy(
        whole.data() + range.whole_begin,
        bytes.data() + sizeof(header) + static_cast<std::size_t>(range.piece_begin) * sizeof(float),
        static_cast<std::size_t>(range.count) * sizeof(float));
  }
}

}  // namespace

TensorGather::TensorGather(World& world, const ParameterTable& table, Context& context)
    : world_(world), table_(table), copy_(context.device, context.compute) {
  const Place own{.dp = context.mesh.coordinates.dp,
                  .tp = context.mesh.coordinates.tp,
                  .shard = context.mesh.param->rank()};
  std::string bytes(sizeof(own), '\0');
  std::memcpy(bytes.data(), &own, sizeof(own));
  for (const std::string& place : world.all_gather(bytes)) {
    std::memcpy(&places_.emplace_back(), place.data(), sizeof(Place));
  }
}

bool TensorGather::sends(const Place& place, const Segment& segment) const {
  return place.dp == 0 && (segment.split != TpSplit::kReplicated || place.tp == 0);
}

std::vector<float> TensorGather::gather(const ShardFamily& family, std::size_t unit,
                                        const Segment& segment) {
  const auto own_piece = [&] {
    const Place& own = places_[static_cast<std::size_t>(world_.rank())];
    const auto runs = segment_runs(table_, table_.units()[unit], own.shard);
    const auto run = std::find_if(runs.begin(), runs.end(), [&](const SegmentRun& candidate) {
      return candidate.segment->index == segment.index;
    });
    if (run == runs.end()) return pack({.begin = 0, .count = 0}, {});
    return pack({.begin = run->segment_begin, .count = run->count},
                copy_.download(family, unit, run->shard_begin, run->count));
  };
  if (world_.rank() != 0) {
    if (sends(places_[static_cast<std::size_t>(world_.rank())], segment)) {
      world_.send(own_piece(), 0);
    }
    return {};
  }
  std::vector<float> whole(static_cast<std::size_t>(segment.shape.num_elements()));
  for (int rank = 0; rank < world_.size(); ++rank) {
    const Place& place = places_[static_cast<std::size_t>(rank)];
    if (!sends(place, segment)) continue;
    const std::string piece = rank == 0 ? own_piece() : world_.receive(rank);
    unpack(piece, segment, place.tp, table_.tp_size(), whole);
  }
  return whole;
}

}  // namespace ringtrain
