#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "peer_memory.h"
#include "peer_signals.h"
#include "ringtrain/comm/world.h"
#include "ringtrain/core/device.h"

namespace ringtrain {

/// What ranks of a group need to write to each other's device memory: the host's word where, the
/// memory itself mapped, and signals between their streams.
class PeerLinks {
 public:
  /// For rank `rank` of a group of `size`. `device` outlives this.
  PeerLinks(int rank, int size, std::shared_ptr<World> plane, Device& device);
  /// Collective over the plane, as `release`.
  ~PeerLinks();
  PeerLinks(const PeerLinks&) = delete;
  PeerLinks& operator=(const PeerLinks&) = delete;

  /// Collective over the plane, whose ranks of equal `color` are a group: finds the others of it.
  /// Returns what hinders the first rank that is hindered, the same on all; nothing if all are
  /// linked.
  std::optional<std::string> connect(int color);

  // Of a group that is linked. Peers are ranks of it.
  /// Collective over the plane, behind all work of this group: after it nobody has memory of others
  /// mapped, but for signals.
  void release();
  void tell(int peer, const std::string& bytes) { plane_->send(bytes, world_rank(peer)); }
  void finish_telling() { plane_->finish_sends(); }
  std::string hear(int peer) { return plane_->receive(world_rank(peer)); }
  MemoryExporter& exporter() { return exporter_; }
  MemoryImporter& importer() { return messages_; }
  PeerSignals& signals() { return *signals_; }

 private:
  struct Introduction {
    int color, rank;
    SharedStretch words;
  };
  int world_rank(int peer) const { return world_ranks_[static_cast<std::size_t>(peer)]; }
  void meet(int color, const std::vector<std::string>& introductions,
            const std::vector<std::string>& hosts);

  int rank_;
  std::shared_ptr<World> plane_;
  Device& device_;
  bool is_linked_ = false;
  std::vector<int> world_ranks_;
  MemoryExporter exporter_;
  std::optional<PeerSignals> signals_;
  MemoryImporter words_;
  MemoryImporter messages_;
};

}  // namespace ringtrain
