#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ringtrain/core/tensor.h"

namespace ringtrain {

/// How a tensor is cut over tp. The tensor's tp slice is then part of its unit's flat buffer,
/// which is cut into equal shards over fsdp x sp.
enum class TpSplit {
  kReplicated,  ///< every tp rank holds all of it, with equal gradients: counted once in norms
  kRows,        ///< outermost dimension: heads, feed-forward rows, vocabulary
  kColumns      ///< innermost dimension: inputs of wo and w2
};

/// One tensor of the model inside a unit's flat buffer. The only description of a parameter that
/// gradient reduction, norms, optimizer, initial values and checkpoints read.
struct Segment {
  std::string name;    ///< as in Hugging Face checkpoints: "model.layers.0.mlp.up_proj.weight"
  std::int32_t index;  ///< among all tensors of the model, in table order
  Shape shape;         ///< of the whole tensor, [out, in] or [size]
  TpSplit split;
  Shape local_shape;    ///< of this tp rank's slice, padding rows included
  std::int64_t offset;  ///< first element in the unit's flat buffer
  bool is_norm;         ///< starts at 1 instead of normal(0, initializer_range)

  std::int64_t num_elements() const { return local_shape.num_elements(); }
};

/// Parameters that are gathered, used and reduced together: the embedding, one layer, the head.
struct ParameterUnit {
  std::string name;  ///< "embedding", "layer 3", "head"
  std::vector<Segment> segments;
  std::int64_t num_elements = 0;  ///< of the flat buffer; a multiple of the number of shards

  /// Errors: InvalidArgument if the unit has no tensor of that name.
  const Segment& segment(const std::string& name) const;
};

/// All units of a model as tp rank `tp_rank` of `tp_size` holds them, flat buffers padded for
/// `num_shards`. Segments start at multiples of 256 bytes of the smallest compute type (128
/// elements), except that tensors used as one matrix (q, k, v; gate, up) follow each other closely.
class ParameterTable {
 public:
  ParameterTable(int tp_rank, int tp_size, int num_shards)
      : tp_rank_(tp_rank), tp_size_(tp_size), num_shards_(num_shards) {}

  /// Starts a new unit; later calls of `add` append to it.
  void begin_unit(std::string name);
  /// Appends a tensor. `follows` packs it right after the previous tensor. kRows pads the rows to
  /// a multiple of tp_size (vocabulary); other splits must divide: InvalidArgument.
  void add(std::string name, Shape shape, TpSplit split, bool is_norm = false,
           bool follows = false);
  /// Pads the last unit; the table is complete.
  void finish();

  const std::vector<ParameterUnit>& units() const { return units_; }
  int num_tensors() const { return num_tensors_; }
  int tp_rank() const { return tp_rank_; }
  int tp_size() const { return tp_size_; }
  int num_shards() const { return num_shards_; }
  /// Elements of one rank's shard of `unit`.
  std::int64_t shard_elements(const ParameterUnit& unit) const {
    return unit.num_elements / num_shards_;
  }

 private:
  int tp_rank_;
  int tp_size_;
  int num_shards_;
  int num_tensors_ = 0;
  std::vector<ParameterUnit> units_;
};

/// A run of one rank's flat shard that holds real elements of a segment: elements
/// [segment_begin, segment_begin + count) of the tp slice (row-major) lie at shard_begin.
/// Padding rows of a vocabulary are in no run.
struct SegmentRun {
  const ParameterUnit* unit;
  const Segment* segment;
  std::int64_t shard_begin;
  std::int64_t segment_begin;
  std::int64_t count;
};

/// The runs of shard `shard` of `unit`, in order.
std::vector<SegmentRun> segment_runs(const ParameterTable& table, const ParameterUnit& unit,
                                     int shard);

/// One value per parameter element, kept in shards: fp32 masters ("master"), Adam moments ("m",
/// "v"), gradients. shards[u] is this rank's [shard_elements(units()[u])] of unit u, on the device
/// or, for all units, in its host memory: ShardPass works on both.
struct ShardFamily {
  std::string name;
  std::vector<Tensor> shards;
  bool on_host = false;
};

/// Rows [first, first + count) of a whole tensor's split dimension that tp rank `tp_rank` holds,
/// padding excluded (count may be 0). For kReplicated the whole outermost dimension.
struct TpSlice {
  std::int64_t first;
  std::int64_t count;
};
TpSlice tp_slice(const Segment& segment, int tp_rank, int tp_size);

}  // namespace ringtrain
