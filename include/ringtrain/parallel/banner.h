#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ringtrain/comm/world.h"
#include "ringtrain/parallel/mesh.h"

namespace ringtrain {

/// Where one rank runs.
struct RankPlace {
  std::string host;
  std::string device;  ///< Device::name()
};

/// Collective: the places of all ranks, in rank order.
std::vector<RankPlace> gather_places(World& world, const Device& device);

/// The start banner: one line a rank, "rank 3  dp 0 fsdp 0 tp 1 sp 1  host:device", and warnings
/// ("warning: tp group of ranks 0, 1 crosses hosts a, b: ...") where neighbours in tp or in
/// a ulysses group, who talk in every layer, do not share a host, and where ranks run on different
/// kinds of device. Lines end with '\n'.
/// Errors: InvalidArgument if there are not shape.size() places, or for a wrong order.
std::string mesh_banner(const std::vector<RankPlace>& places, const MeshShape& shape,
                        std::string_view order);

}  // namespace ringtrain
