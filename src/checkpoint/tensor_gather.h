#pragma once

#include <vector>

#include "ringtrain/checkpoint/shard_copy.h"
#include "ringtrain/comm/world.h"
#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/parameter_table.h"

namespace ringtrain {

/// Brings whole tensors of a sharded family to rank 0, one at a time, by messages of the control
/// plane: export is rare and should need no device memory. Only the first replica (dp 0), and of
/// replicated tensors only tp rank 0, sends.
class TensorGather {
 public:
  /// Collective over `world`: the ranks tell each other their places in the mesh.
  TensorGather(World& world, const ParameterTable& table, Context& context);

  /// Every rank calls it for the same tensors in the same order. The elements of the whole tensor
  /// on rank 0, without padding; nothing on other ranks.
  std::vector<float> gather(const ShardFamily& family, std::size_t unit, const Segment& segment);

 private:
  struct Place {
    int dp = 0, tp = 0, shard = 0;
  };
  bool sends(const Place& place, const Segment& segment) const;

  World& world_;
  const ParameterTable& table_;
  ShardCopy copy_;
  std::vector<Place> places_;  ///< by rank
};

}  // namespace ringtrain
