#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ringtrain/comm/world.h"
#include "ringtrain/config/model_config.h"
#include "ringtrain/parallel/parameter_table.h"
#include "support/rank_context.h"

namespace ringtrain {

/// The value of an element of a whole tensor, for tests that must know where each element is.
using ValueOf = std::function<float(const Segment&, std::int64_t whole_index)>;
/// Values that differ between tensors, elements and salts; all are exact in bf16.
ValueOf scattered_values(int salt);

/// A LLaMA of a few hundred parameters whose vocabulary (13) no tp divides.
ModelConfig tiny_llama(bool tied = false);

/// Uninitialised (NaN) shards of every unit, in the arena of `rank`.
ShardFamily make_family(RankContext& rank, const ParameterTable& table, const std::string& name,
                        DType dtype);
/// Every real element becomes its value and padding zero; worked out from rows and columns, apart
/// from the code under test.
void fill(RankContext& rank, const ParameterTable& table, const ShardFamily& family,
          const ValueOf& value_of);
/// Whether `family` holds what `fill` writes, up to `tolerance` times the value; names the first
/// element that differs.
::testing::AssertionResult holds(RankContext& rank, const ParameterTable& table,
                                 const ShardFamily& family, const ValueOf& value_of,
                                 float tolerance = 0);
/// The values of a family that one rank holds alone (tp 1, one shard).
ValueOf values_of(RankContext& rank, const ParameterTable& table, const ShardFamily& family);

/// One rank of an emulated mesh: a thread with its own device of the given type and its place.
struct MeshRank {
  World& world;
  RankContext& rank;
  ParameterTable table;
};
/// Runs `body` on all ranks of a mesh for a model, each a thread (run_ranks); no tensors travel.
void run_on_mesh(DeviceType device, const MeshShape& mesh, const ModelConfig& model,
                 const std::function<void(MeshRank&)>& body);

}  // namespace ringtrain
