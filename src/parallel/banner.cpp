#include "ringtrain/parallel/banner.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {

std::vector<RankPlace> gather_places(World& world, const Device& device) {
  const auto hosts = world.all_gather(world.host_name());
  const auto devices = world.all_gather(device.name());
  std::vector<RankPlace> places;
  for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
    places.push_back({hosts[rank], devices[rank]});
  }
  return places;
}

std::string mesh_banner(const std::vector<RankPlace>& places, const MeshShape& shape,
                        std::string_view order) {
  if (static_cast<int>(places.size()) != shape.size()) {
    throw InvalidArgument(fmt::format("mesh {} needs {} ranks, {} places are known",
                                      shape.to_string(), shape.size(), places.size()));
  }
  struct Group {
    std::vector<int> ranks;
    std::set<std::string> hosts;
  };
  std::map<std::tuple<std::string, int, int, int>, Group> groups;  // that talk in every layer
  std::string text = fmt::format("mesh {} (order {})\n", shape.to_string(), order);
  const auto width = std::to_string(shape.size() - 1).size();
  for (int rank = 0; rank < shape.size(); ++rank) {
    const auto at = mesh_coordinates(rank, shape, order);
    const RankPlace& place = places[static_cast<std::size_t>(rank)];
    text += fmt::format("  rank {:>{}}  dp {} fsdp {} tp {} sp {}  {}: {}\n", rank, width, at.dp,
                        at.fsdp, at.tp, at.sp, place.host, place.device);
    const int batch_shard = at.dp * shape.fsdp + at.fsdp;
    for (Group* group : {&groups[{"tp", batch_shard, at.sp, 0}],
                         &groups[{"ulysses", batch_shard, at.sp / shape.ulysses, at.tp}]}) {
      group->ranks.push_back(rank);
      group->hosts.insert(place.host);
    }
  }
  for (const auto& [key, group] : groups) {
    if (group.hosts.size() == 1) continue;
    text += fmt::format(
        "warning: the {0} group of ranks {1} crosses hosts {2}: every layer waits for their "
        "network; choose {3} and --mesh_order so that it stays inside one\n",
        std::get<0>(key), fmt::join(group.ranks, ", "), fmt::join(group.hosts, ", "),
        std::get<0>(key) == "tp" ? "tp" : "ulysses_size");
  }
  std::map<std::string, std::vector<int>> ranks_of;  // by kind of device
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    const std::string& device = places[rank].device;
    ranks_of[device.substr(0, device.rfind(" (cuda:"))].push_back(static_cast<int>(rank));
  }
  if (ranks_of.size() > 1) {
    text += "warning: ranks run on different devices, and all wait for the slowest:\n";
    for (const auto& [device, ranks] : ranks_of) {
      text += fmt::format("warning:   {}: rank {}\n", device, fmt::join(ranks, ", "));
    }
  }
  return text;
}

}  // namespace ringtrain
