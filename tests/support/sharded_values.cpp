#include "support/sharded_values.h"

#include <cmath>
#include <limits>
#include <map>

#include "ringtrain/checkpoint/shard_copy.h"
#include "ringtrain/core/random.h"
#include "ringtrain/model/llama_parameters.h"
#include "support/thread_world.h"

namespace ringtrain {
namespace {

// One tp rank's flat buffer of a unit.
std::vector<float> flat_values(const ParameterTable& table, const ParameterUnit& unit,
                               const ValueOf& value_of) {
  std::vector<float> flat(static_cast<std::size_t>(unit.num_elements));
  for (const Segment& segment : unit.segments) {
    const bool is_matrix = segment.shape.rank() == 2;
    const std::int64_t columns = is_matrix ? segment.local_shape[1] : 1;
    const std::int64_t whole_columns = is_matrix ? segment.shape[1] : 1;
    for (std::int64_t i = 0; i < segment.num_elements(); ++i) {
      std::int64_t row = i / columns;
      std::int64_t column = i % columns;
      if (segment.split == TpSplit::kRows) row += table.tp_rank() * segment.local_shape[0];
      if (segment.split == TpSplit::kColumns) column += table.tp_rank() * columns;
      if (row >= segment.shape[0]) continue;  // padding
      flat[static_cast<std::size_t>(segment.offset + i)] =
          value_of(segment, row * whole_columns + column);
    }
  }
  return flat;
}

}  // namespace

ValueOf scattered_values(int salt) {
  return [salt](const Segment& segment, std::int64_t whole_index) {
    const std::uint64_t key = random_key(static_cast<std::uint64_t>(salt), segment.name);
    const auto word = philox4x32(key, static_cast<std::uint64_t>(whole_index))[0];
    const auto mantissa = static_cast<float>(128 + word % 128);  // eight bits
    const float scale = 1.0f / static_cast<float>(1u << (word >> 8) % 16);
    return (word >> 31) != 0 ? -mantissa * scale : mantissa * scale;
  };
}

ModelConfig tiny_llama(bool tied) {
  ModelConfig config;
  config.vocab_size = 13;
  config.hidden_size = 8;
  config.intermediate_size = 12;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 4;
  config.tie_word_embeddings = tied;
  return config;
}

ShardFamily make_family(RankContext& rank, const ParameterTable& table, const std::string& name,
                        DType dtype) {
  ShardFamily family{.name = name, .shards = {}};
  for (const ParameterUnit& unit : table.units()) {
    family.shards.push_back(
        rank->arena.allocate({table.shard_elements(unit)}, dtype, MemoryKind::kOptimizer));
    rank.ops().fill(family.shards.back(), std::numeric_limits<double>::quiet_NaN(), rank.stream());
  }
  return family;
}

void fill(RankContext& rank, const ParameterTable& table, const ShardFamily& family,
          const ValueOf& value_of) {
  ShardCopy copy(rank->device, rank.stream());
  for (std::size_t u = 0; u < table.units().size(); ++u) {
    const std::vector<float> flat = flat_values(table, table.units()[u], value_of);
    const auto size = table.shard_elements(table.units()[u]);
    const auto first = flat.begin() + rank->mesh.param->rank() * size;
    copy.upload(family.shards[u], 0, std::vector<float>(first, first + size));
  }
}

::testing::AssertionResult holds(RankContext& rank, const ParameterTable& table,
                                 const ShardFamily& family, const ValueOf& value_of,
                                 float tolerance) {
  ShardCopy copy(rank->device, rank.stream());
  for (std::size_t u = 0; u < table.units().size(); ++u) {
    const ParameterUnit& unit = table.units()[u];
    const std::vector<float> flat = flat_values(table, unit, value_of);
    const auto size = table.shard_elements(unit);
    const std::int64_t first = rank->mesh.param->rank() * size;
    const std::vector<float> actual = copy.download(family.shards[u], 0, size);
    for (std::int64_t i = 0; i < size; ++i) {
      const float expected = flat[static_cast<std::size_t>(first + i)];
      const float difference = std::abs(actual[static_cast<std::size_t>(i)] - expected);
      if (difference <= tolerance * std::abs(expected)) continue;
      return ::testing::AssertionFailure()
             << "family " << family.name << ", " << unit.name << ", flat element " << first + i
             << " is " << actual[static_cast<std::size_t>(i)] << ", expected " << expected;
    }
  }
  return ::testing::AssertionSuccess();
}

ValueOf values_of(RankContext& rank, const ParameterTable& table, const ShardFamily& family) {
  std::map<std::string, std::vector<float>> tensors;
  ShardCopy copy(rank->device, rank.stream());
  for (std::size_t u = 0; u < table.units().size(); ++u) {
    for (const Segment& segment : table.units()[u].segments) {
      tensors[segment.name] =
          copy.download(family.shards[u], segment.offset, segment.num_elements());
    }
  }
  return [tensors](const Segment& segment, std::int64_t whole_index) {
    return tensors.at(segment.name)[static_cast<std::size_t>(whole_index)];
  };
}

void run_on_mesh(DeviceType device, const MeshShape& mesh, const ModelConfig& model,
                 const std::function<void(MeshRank&)>& body) {
  run_ranks(mesh.size(), [&](World& world) {
    const auto own = device == DeviceType::kCuda ? make_cuda_device(0) : make_cpu_device();
    const MeshCoordinates at = mesh_coordinates(world.rank(), mesh, "tp,sp,fsdp,dp");
    RankContext rank(*own, make_meta_mesh(mesh, at));
    MeshRank place{world, rank, make_llama_table(model, at.tp, mesh.tp, mesh.num_param_shards())};
    body(place);
  });
}

}  // namespace ringtrain
