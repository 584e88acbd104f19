#include "ringtrain/parallel/shard_pass.h"

#include <algorithm>

namespace ringtrain {

ShardPass::ShardPass(Context& context, const ParameterTable& table)
    : context_(context), table_(table), begun_(context.device.make_event()) {
  for (Stage& stage : stages_) {
    for (auto* event : {&stage.arrived, &stage.computed, &stage.left}) {
      *event = context.device.make_event();
    }
  }
}

void ShardPass::allocate_stages(const std::vector<ShardUse>& uses) {
  std::int64_t largest = 0;
  for (const ParameterUnit& unit : table_.units()) {
    largest = std::max(largest, table_.shard_elements(unit));
  }
  for (Stage& stage : stages_) {
    stage.buffers.clear();
    for (const ShardUse& use : uses) {
      stage.buffers.push_back(use.family->on_host
                                  ? context_.arena.allocate({largest},
                                                            use.family->shards.front().dtype(),
                                                            MemoryKind::kOptimizer)
                                  : Tensor{});
    }
  }
}

Tensor ShardPass::staged(const ShardUse& use, std::size_t use_index, std::size_t unit) const {
  const Tensor shard = use.family->shards[unit];
  if (!use.family->on_host) return shard;
  return stages_[unit % stages_.size()].buffers[use_index].view(0, shard.shape());
}

void ShardPass::fetch(const std::vector<ShardUse>& uses, std::size_t unit) {
  Stage& stage = stages_[unit % stages_.size()];
  context_.to_device.wait(*stage.computed);
  context_.to_device.wait(*stage.left);
  for (std::size_t i = 0; i < uses.size(); ++i) {
    if (!uses[i].family->on_host || !uses[i].is_read) continue;
    const Tensor host = uses[i].family->shards[unit];
    context_.device.copy_to_device(staged(uses[i], i, unit).raw(), host.raw(), host.bytes(),
                                   context_.to_device);
  }
  context_.to_device.record(*stage.arrived);
}

void ShardPass::send_back(const std::vector<ShardUse>& uses, std::size_t unit) {
  Stage& stage = stages_[unit % stages_.size()];
  context_.to_host.wait(*stage.computed);
  for (std::size_t i = 0; i < uses.size(); ++i) {
    if (!uses[i].family->on_host || !uses[i].is_written) continue;
    const Tensor host = uses[i].family->shards[unit];
    context_.device.copy_to_host(host.raw(), staged(uses[i], i, unit).raw(), host.bytes(),
                                 context_.to_host);
  }
  context_.to_host.record(*stage.left);
}

void ShardPass::run(const std::vector<ShardUse>& uses, Stream& stream, const Body& body) {
  const std::size_t num_units = table_.units().size();
  const bool streams = std::any_of(uses.begin(), uses.end(),
                                   [](const ShardUse& use) { return use.family->on_host; });
  const Arena::Scope scope(context_.arena);
  if (streams) {
    allocate_stages(uses);
    // The stages lie where the stream's earlier work had its memory.
    stream.record(*begun_);
    context_.to_device.wait(*begun_);
    fetch(uses, 0);
  }
  std::vector<Tensor> shards(uses.size());
  for (std::size_t unit = 0; unit < num_units; ++unit) {
    Stage& stage = stages_[unit % stages_.size()];
    if (streams && unit + 1 < num_units) fetch(uses, unit + 1);
    if (streams) stream.wait(*stage.arrived);
    for (std::size_t i = 0; i < uses.size(); ++i) shards[i] = staged(uses[i], i, unit);
    body(unit, shards);
    if (!streams) continue;
    stream.record(*stage.computed);
    send_back(uses, unit);
  }
  if (!streams) return;
  for (const Stage& stage : stages_) stream.wait(*stage.left);
}

}  // namespace ringtrain
