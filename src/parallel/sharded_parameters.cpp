#include "ringtrain/parallel/sharded_parameters.h"

#include <algorithm>
#include <array>
#include <span>

#include "ringtrain/core/error.h"
#include "ringtrain/core/random.h"
#include "ringtrain/parallel/tensor_ranges.h"

namespace ringtrain {
namespace {

// Draws the elements of one run by their places in the whole tensor.
void draw_run(Context& context, const ParameterTable& table, const SegmentRun& run, Tensor shard,
              std::uint64_t key, double stddev) {
  for (const TensorRange& range : tensor_ranges(run, table.tp_rank(), table.tp_size())) {
    const Tensor out = shard.view(run.shard_begin + range.piece_begin, {range.count});
    context.ops.random_normal({out, key, range.whole_begin, stddev}, context.compute);
  }
}

}  // namespace

ShardedParameters::ShardedParameters(Context& context, const ParameterTable& table,
                                     const Options& options)
    : context_(context),
      table_(table),
      options_(options),
      pass_(context, table),
      event_(context.device.make_event()) {
  masters_.name = "master";
  masters_.on_host = options.masters_on_host;
  gradients_.name = "gradient";
  Arena& masters = options.masters_on_host ? context.host : context.arena;
  const bool masters_compute = context.compute_dtype == DType::kFloat32 && !options.masters_on_host;
  for (const ParameterUnit& unit : table.units()) {
    const Shape shard{table.shard_elements(unit)};
    masters_.shards.push_back(masters.allocate(shard, DType::kFloat32, MemoryKind::kParameters));
    if (options.with_gradients) {
      gradients_.shards.push_back(
          context.arena.allocate(shard, options.gradient_dtype, MemoryKind::kGradients));
    }
    compute_shards_.push_back(masters_compute ? masters_.shards.back()
                                              : context.arena.allocate(shard, context.compute_dtype,
                                                                       MemoryKind::kParameters));
  }
  if (is_sharded()) make_slots(weight_slots_, context.compute_dtype, MemoryKind::kParameters);
  if (!options.with_gradients) return;
  is_empty_.assign(table.units().size(), true);
  // Nobody writes to padding after this.
  for (const Tensor& shard : gradients_.shards) context.ops.fill(shard, 0, context.compute);
  if (!buffers_gradients()) return;
  make_slots(gradient_slots_, DType::kFloat32, MemoryKind::kGradients);
  for (const Slot& slot : gradient_slots_) context.ops.fill(slot.buffer, 0, context.compute);
  if (!is_sharded()) return;
  std::int64_t largest = 0;
  for (const Tensor& shard : gradients_.shards) largest = std::max(largest, shard.num_elements());
  reduced_ = context.arena.allocate({largest}, DType::kFloat32, MemoryKind::kGradients);
}

// The first and last unit have a slot each (a tied embedding is used by the head too); the layers
// between share two, so that one is computed with while the next arrives, or one where nothing
// does.
std::size_t ShardedParameters::slot_of(int unit) const {
  const int last = static_cast<int>(table_.units().size()) - 1;
  if (unit == 0) return 0;
  if (unit == last) return 1;
  return 2 + (is_sharded() ? static_cast<std::size_t>(unit % 2) : 0);
}

void ShardedParameters::make_slots(std::vector<Slot>& slots, DType dtype, MemoryKind kind) {
  std::array<std::int64_t, 4> sizes{};
  for (int unit = 0; unit < static_cast<int>(table_.units().size()); ++unit) {
    std::int64_t& size = sizes[slot_of(unit)];
    size = std::max(size, table_.units()[static_cast<std::size_t>(unit)].num_elements);
  }
  for (const std::int64_t size : sizes) {
    slots.push_back({context_.arena.allocate({size}, dtype, kind), -1, context_.device.make_event(),
                     context_.device.make_event()});
  }
}

Label ShardedParameters::wait_label(const char* what, std::size_t unit) const {
  return {.what = what,
          .object = table_.units()[unit].name.c_str(),
          .group = context_.mesh.param->name().c_str()};
}

bool ShardedParameters::is_separate(std::size_t unit) const {
  return compute_shards_[unit].raw() != masters_.shards[unit].raw();
}

void ShardedParameters::initialise(std::uint64_t seed, double stddev) {
  const auto draw = [&](std::size_t u, std::span<const Tensor> shards) {
    const Tensor shard = shards[0];
    context_.ops.fill(shard, 0, context_.compute);
    for (const SegmentRun& run :
         segment_runs(table_, table_.units()[u], context_.mesh.param->rank())) {
      if (run.segment->is_norm) {
        context_.ops.fill(shard.view(run.shard_begin, {run.count}), 1, context_.compute);
      } else {
        draw_run(context_, table_, run, shard, random_key(seed, run.segment->name), stddev);
      }
    }
    refresh_unit(u, shard);
  };
  pass_.run({{.family = &masters_, .is_read = false, .is_written = true}}, context_.compute, draw);
  publish_compute_weights();
}

void ShardedParameters::refresh_compute_weights() {
  pass_.run(
      {{.family = &masters_}}, context_.compute,
      [&](std::size_t unit, std::span<const Tensor> shards) { refresh_unit(unit, shards[0]); });
  publish_compute_weights();
}

void ShardedParameters::refresh_unit(std::size_t unit, Tensor master) {
  if (is_separate(unit)) context_.ops.cast(master, compute_shards_[unit], context_.compute);
}

std::vector<Tensor> ShardedParameters::separate_weights() const {
  std::vector<Tensor> weights;
  for (std::size_t unit = 0; unit < compute_shards_.size(); ++unit) {
    weights.push_back(is_separate(unit) ? compute_shards_[unit] : Tensor{});
  }
  return weights;
}

void ShardedParameters::publish_compute_weights() {
  for (Slot& slot : weight_slots_) slot.unit = -1;
  context_.compute.record(*event_);
  context_.params.wait(*event_);
}

void ShardedParameters::prefetch(int unit) {
  if (!is_sharded()) return;
  Slot& slot = weight_slots_[slot_of(unit)];
  if (slot.unit == unit) return;
  slot.unit = unit;
  const auto u = static_cast<std::size_t>(unit);
  const Region region(context_.observer, context_.params,
                      {"gather", table_.units()[u].name.c_str()});
  context_.params.wait(*slot.unused);
  context_.mesh.param->all_gather(
      compute_shards_[u], slot.buffer.view(0, {table_.units()[u].num_elements}), context_.params);
  context_.params.record(*slot.ready);
}

Tensor ShardedParameters::acquire(int unit) {
  const auto u = static_cast<std::size_t>(unit);
  if (!is_sharded()) return compute_shards_[u];
  prefetch(unit);
  Slot& slot = weight_slots_[slot_of(unit)];
  context_.wait_for(*slot.ready, wait_label("waiting for all_gather of", u));
  return slot.buffer.view(0, {table_.units()[u].num_elements});
}

void ShardedParameters::release(int unit) {
  if (!is_sharded()) return;
  context_.compute.record(*weight_slots_[slot_of(unit)].unused);
}

ShardedParameters::UnitGradient ShardedParameters::begin_gradient(int unit) {
  const auto u = static_cast<std::size_t>(unit);
  UnitGradient gradient{gradients_.shards[u], is_empty_[u]};
  if (buffers_gradients()) {
    Slot& slot = gradient_slots_[slot_of(unit)];
    context_.wait_for(*slot.unused, wait_label("waiting for reduce_scatter before", u));
    gradient = {slot.buffer.view(0, {table_.units()[u].num_elements}), true};
  }
  if (!gradient.is_empty) return gradient;
  for (const Segment& segment : table_.units()[u].segments) {
    if (segment.is_norm) {
      context_.ops.fill(gradient.flat.view(segment.offset, segment.local_shape), 0,
                        context_.compute);
    }
  }
  return gradient;
}

void ShardedParameters::add_to_shard(std::size_t unit, Tensor reduced, Stream& stream) {
  const Tensor shard = gradients_.shards[unit];
  if (is_empty_[unit]) {
    context_.ops.cast(reduced, shard, stream);
  } else {
    context_.ops.add(reduced, shard, stream);
  }
}

void ShardedParameters::end_gradient(int unit) {
  const auto u = static_cast<std::size_t>(unit);
  if (buffers_gradients()) reduce_gradient(unit);
  is_empty_[u] = false;
}

void ShardedParameters::reduce_gradient(int unit) {
  const auto u = static_cast<std::size_t>(unit);
  Slot& slot = gradient_slots_[slot_of(unit)];
  const Tensor shard = gradients_.shards[u];
  if (!is_sharded()) {
    add_to_shard(u, slot.buffer.view(0, shard.shape()), context_.compute);
    return;
  }
  const Tensor reduced = reduced_.view(0, shard.shape());
  context_.compute.record(*slot.ready);
  const Region region(context_.observer, context_.params,
                      {"reduce", table_.units()[u].name.c_str()});
  context_.params.wait(*slot.ready);
  context_.mesh.param->reduce_scatter(slot.buffer.view(0, {table_.units()[u].num_elements}),
                                      reduced, ReduceOp::kSum, context_.params);
  context_.params.record(*slot.unused);
  add_to_shard(u, reduced, context_.params);
}

void ShardedParameters::drop_gradients() {
  is_empty_.assign(is_empty_.size(), true);
  context_.compute.record(*event_);
  context_.params.wait(*event_);
}

void ShardedParameters::finish_gradients() {
  if (std::ranges::find(is_empty_, true) != is_empty_.end()) {
    throw InvalidArgument("an update needs the gradients of a micro-batch after the last one's");
  }
  context_.compute.record(*event_);
  context_.params.wait(*event_);
  for (const Tensor& shard : gradients_.shards) {
    context_.mesh.dp->all_reduce(shard, ReduceOp::kSum, context_.params);
  }
  context_.params.record(*event_);
  const char* group = (is_sharded() ? context_.mesh.param : context_.mesh.dp)->name().c_str();
  context_.wait_for(*event_, {.what = "waiting for gradients", .group = group});
}

}  // namespace ringtrain
