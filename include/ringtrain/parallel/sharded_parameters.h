#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/parameter_table.h"
#include "ringtrain/parallel/shard_pass.h"

namespace ringtrain {

/// The parameters of one rank and their gradients: fp32 masters and reduced gradients as shards
/// over fsdp x sp, compute-type weights gathered unit by unit while they are needed.
///
///   masters (fp32 shard) -cast-> compute shard -all_gather-> whole unit -> layer
///   layer -> whole gradient (fp32) -reduce_scatter-> added to the gradient shard -all_reduce-> dp
///
/// Gathers and reductions run on Context::params, ordered with the compute stream by events: a
/// gather of the next unit overlaps the computation with this one. With one shard the whole unit
/// is the shard itself and nothing moves. Units must be acquired by all ranks in the same order.
class ShardedParameters {
 public:
  struct Options {
    bool with_gradients = true;  ///< without them only evaluation is possible
    bool masters_on_host = false;
    /// Of the gradient shards. bf16 rounds what is added, once a micro-batch: each unit's gradient
    /// is summed in fp32 first, in a buffer of its own.
    DType gradient_dtype = DType::kFloat32;
  };
  /// Allocates everything from the arenas; contents are undefined. `table` must outlive this.
  ShardedParameters(Context& context, const ParameterTable& table, const Options& options);

  /// Draws every weight from normal(0, stddev), keyed by tensor name and element index in the whole
  /// tensor, so that every mesh starts alike; norms start at 1, padding at 0.
  void initialise(std::uint64_t seed, double stddev);
  /// Casts the masters to the compute type; after every change of the masters.
  void refresh_compute_weights();
  /// The same in parts: the shards of every unit in the compute type, for whoever changes the
  /// masters to round them into (absent where the masters compute), ...
  std::vector<Tensor> separate_weights() const;
  /// ... and, after all units, lets the next gathers see them.
  void publish_compute_weights();

  /// Starts gathering unit `unit` unless it is there already.
  void prefetch(int unit);
  /// The unit's whole flat buffer [num_elements] in the compute type, ready for the compute
  /// stream, until `release`. Each slot holds one unit: see slot_of in the source.
  Tensor acquire(int unit);
  /// The compute stream's work enqueued so far is the last that reads the unit.
  void release(int unit);

  /// An fp32 flat buffer for the unit's gradient of this micro-batch; with one fp32 shard the
  /// accumulated gradient itself. Where it is empty, norms hold zeros and matrices anything: the
  /// first to work on a matrix overwrites it, and nobody has to write zeros before.
  struct UnitGradient {
    Tensor flat;
    bool is_empty;
  };
  UnitGradient begin_gradient(int unit);
  /// Adds the buffer's reduction over fsdp x sp to this rank's gradient shard.
  void end_gradient(int unit);
  /// Gradients start anew: the next of each unit takes the place of what is there.
  void drop_gradients();
  /// Sums the gradient shards over dp and lets the compute stream wait for them: call before the
  /// optimizer. Gradients stay unscaled sums over tokens.
  /// Errors: InvalidArgument if a unit has had no gradient since they were dropped.
  void finish_gradients();

  const ParameterTable& table() const { return table_; }
  const ShardFamily& masters() const { return masters_; }
  const ShardFamily& gradients() const { return gradients_; }

 private:
  struct Slot {
    Tensor buffer;
    int unit = -1;  // whose data it holds
    std::unique_ptr<Event> ready;
    std::unique_ptr<Event> unused;  // compute has finished with it
  };

  /// Casts one unit's master, which is in device memory.
  void refresh_unit(std::size_t unit, Tensor master);
  bool is_separate(std::size_t unit) const;
  /// What end_gradient does where the unit's gradient is in a buffer.
  void reduce_gradient(int unit);
  /// `reduced` is fp32, of the shard's size.
  void add_to_shard(std::size_t unit, Tensor reduced, Stream& stream);
  bool is_sharded() const { return table_.num_shards() > 1; }
  bool buffers_gradients() const {
    return is_sharded() || options_.gradient_dtype != DType::kFloat32;
  }
  std::size_t slot_of(int unit) const;
  Label wait_label(const char* what, std::size_t unit) const;
  void make_slots(std::vector<Slot>& slots, DType dtype, MemoryKind kind);

  Context& context_;
  const ParameterTable& table_;
  Options options_;
  ShardPass pass_;
  ShardFamily masters_;
  ShardFamily gradients_;
  std::vector<Tensor> compute_shards_;  // the masters themselves where these are fp32 on the device
  std::vector<Slot> weight_slots_;
  std::vector<Slot> gradient_slots_;
  std::vector<bool> is_empty_;  // by unit: the gradient shard
  Tensor reduced_;              // one shard, between reduce_scatter and the addition
  std::unique_ptr<Event> event_;
};

}  // namespace ringtrain
