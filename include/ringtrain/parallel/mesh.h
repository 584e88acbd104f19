#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "ringtrain/comm/communicator.h"

namespace ringtrain {

struct TrainConfig;

/// Sizes of the mesh axes; the product is the number of ranks.
struct MeshShape {
  int dp = 1;    ///< replicas of everything but the batch
  int fsdp = 1;  ///< batch split; parameters sharded
  int tp = 1;    ///< heads, feed-forward and vocabulary split
  int sp = 1;    ///< sequence split; parameters sharded
  /// Of sp: neighbouring ranks that exchange heads for tokens. sp / ulysses such groups form the
  /// ring.
  int ulysses = 1;

  int size() const { return dp * fsdp * tp * sp; }
  /// Ranks that read different sequences.
  int num_batch_shards() const { return dp * fsdp; }
  /// Ranks over which one layer's flat buffer is cut.
  int num_param_shards() const { return fsdp * sp; }
  /// Ranks that rotate keys and values.
  int ring_size() const { return sp / ulysses; }
  std::string to_string() const;  ///< "dp=1,fsdp=2,tp=2,sp=2", with ",ulysses=2" where not 1
};

/// Parses "1,-1,1,1" (dp,fsdp,tp,sp) or "dp:1,fsdp:-1,tp:2,sp:4"; one size may be -1 and takes the
/// rest; a leading '!' is accepted. Errors: InvalidArgument with the arithmetic.
MeshShape parse_mesh(std::string_view text, int world_size);

/// The size of ulysses groups on an axis of `sp` ranks: 1 for sp_type "ring", sp for "ulysses", and
/// for "hybrid" `ulysses_size`, a divisor of sp. ulysses_size 0 means not given.
/// Errors: InvalidArgument naming both options, what they contradict and the legal sizes.
int parse_ulysses(std::string_view sp_type, std::int64_t ulysses_size, int sp);

/// The mesh that mesh_dim, sp_type and ulysses_size describe. Errors: those of the parsers.
MeshShape mesh_shape_of(const TrainConfig& config, int world_size);

/// This rank's place on every axis.
struct MeshCoordinates {
  int dp = 0, fsdp = 0, tp = 0, sp = 0;
};

/// `order` names the axes from the one whose neighbours are adjacent ranks outwards; the default
/// "tp,sp,fsdp,dp" keeps tp and the ring inside a host.
MeshCoordinates mesh_coordinates(int rank, const MeshShape& shape, std::string_view order);

/// The communicators of one rank, one per axis over which something is exchanged. A value that is
/// passed down, never a global.
struct Mesh {
  MeshShape shape;
  MeshCoordinates coordinates;
  std::unique_ptr<Communicator> ring;     ///< outer part of sp: key/value blocks
  std::unique_ptr<Communicator> ulysses;  ///< inner part of sp: heads for tokens
  std::unique_ptr<Communicator> tp;       ///< activations and vocabulary statistics
  std::unique_ptr<Communicator> param;    ///< fsdp x sp jointly; rank = fsdp * sp_size + sp
  std::unique_ptr<Communicator> dp;       ///< gradients of replicas

  /// Index of this rank's rows of the batch: dp * fsdp_size + fsdp.
  int batch_shard() const { return coordinates.dp * shape.fsdp + coordinates.fsdp; }
};

/// A mesh whose communicators move nothing, for the rank at `coordinates`: see make_meta_device.
Mesh make_meta_mesh(const MeshShape& shape, const MeshCoordinates& coordinates);

/// The same mesh with groups that tell `observer` of every collective.
Mesh observed(Mesh mesh, StepObserver& observer);

/// Of the two groups that send messages.
struct MessageRoutes {
  MessageRoute ring, ulysses;
};

/// Collective over `world`: splits it into the groups of `shape`.
Mesh make_mesh(Communicator& world, Device& device, const MeshShape& shape, std::string_view order,
               const MessageRoutes& routes = {});

}  // namespace ringtrain
