#include "ringtrain/model/activation_store.h"

#include <algorithm>
#include <utility>

namespace ringtrain {

ActivationStore::ActivationStore(Context& context, const LayerShape& shape,
                                 std::vector<RematPlan> plans)
    : context_(context),
      shape_(shape),
      plans_(std::move(plans)),
      host_(plans_.size()),
      written_(context.device.make_event()) {
  int below = -1;
  std::size_t offloaded = 0;
  for (std::size_t layer = 0; layer < plans_.size(); ++layer) {
    below_.push_back(below);
    slot_index_.push_back(offloaded % slots_.size());
    if (!plans_[layer].input_on_host) continue;
    below = static_cast<int>(layer);
    ++offloaded;
  }
  for (Slot& slot : slots_) {
    for (auto* event : {&slot.input_copied, &slot.attention_copied, &slot.arrived, &slot.unused}) {
      *event = context.device.make_event();
    }
  }
}

ActivationStore::Parts ActivationStore::allocate_parts(Arena& arena, bool with_attention) const {
  const LayerShape& s = shape_;
  const DType type = context_.compute_dtype;
  const auto allocate = [&](Shape shape, DType dtype) {
    return arena.allocate(shape, dtype, MemoryKind::kActivations);
  };
  Parts parts;
  parts.input = allocate({s.rows(), s.hidden}, type);
  if (!with_attention) return parts;
  parts.attention_out = allocate({s.batch, s.tokens, s.heads, s.head_dim}, type);
  parts.lse = allocate({s.batch, s.heads, s.tokens}, DType::kFloat32);
  return parts;
}

void ActivationStore::begin_step() {
  std::array<bool, 2> is_used{};
  std::array<bool, 2> has_attention{};
  auto to_come = static_cast<std::size_t>(std::count_if(
      plans_.begin(), plans_.end(), [](const RematPlan& layer) { return layer.input_on_host; }));
  for (std::size_t layer = 0; layer < plans_.size(); ++layer) {
    if (!plans_[layer].input_on_host) continue;
    const bool with_attention = plans_[layer].attention_on_host;
    // The last ones are in their slots until the backward pass, which begins with them.
    if (to_come-- > slots_.size()) host_[layer] = allocate_parts(context_.host, with_attention);
    is_used[slot_index_[layer]] = true;
    has_attention[slot_index_[layer]] |= with_attention;
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].layer = -1;
    if (is_used[i]) slots_[i].parts = allocate_parts(context_.arena, has_attention[i]);
  }
}

LayerActivations ActivationStore::open(int layer) {
  const LayerShape& s = shape_;
  const RematPlan& keep = plan(layer);
  const DType type = context_.compute_dtype;
  const auto room = [&](bool wanted, Shape shape, DType dtype) {
    return wanted ? context_.arena.allocate(shape, dtype, MemoryKind::kActivations) : Tensor{};
  };
  LayerActivations kept;
  kept.input = room(!keep.input_on_host, {s.rows(), s.hidden}, type);
  kept.attention_rstd = room(keep.normed_attention, {s.rows()}, DType::kFloat32);
  kept.normed_attention = room(keep.normed_attention, {s.rows(), s.hidden}, type);
  kept.query = room(keep.query_key_value, {s.batch, s.tokens, s.heads, s.head_dim}, type);
  kept.key_value = room(keep.query_key_value, {2, s.batch, s.tokens, s.kv_heads, s.head_dim}, type);
  const bool attention_stays = keep.attention && !keep.attention_on_host;
  kept.attention_out = room(attention_stays, {s.batch, s.tokens, s.heads, s.head_dim}, type);
  kept.lse = room(attention_stays, {s.batch, s.heads, s.tokens}, DType::kFloat32);
  kept.middle = room(keep.middle, {s.rows(), s.hidden}, type);
  kept.ffn_rstd = room(keep.normed_ffn, {s.rows()}, DType::kFloat32);
  kept.normed_ffn = room(keep.normed_ffn, {s.rows(), s.hidden}, type);
  kept.gate_up = room(keep.gate_up, {s.rows(), 2 * s.ffn}, type);
  kept.activation = room(keep.activation, {s.rows(), s.ffn}, type);
  if (!keep.input_on_host) return kept;
  Slot& slot = slot_of(layer);
  context_.compute.wait(*slot.input_copied);  // the input of the slot's previous layer
  slot.layer = layer;
  kept.input = slot.parts.input;
  if (keep.attention_on_host) {
    kept.attention_out = slot.parts.attention_out;
    kept.lse = slot.parts.lse;
  }
  return kept;
}

void ActivationStore::copy_out(const Tensor& host, const Tensor& device) {
  context_.device.copy_to_host(host.raw(), device.raw(), device.bytes(), context_.to_host);
}

void ActivationStore::copy_in(const Tensor& host, const Tensor& device) {
  context_.device.copy_to_device(device.raw(), host.raw(), host.bytes(), context_.to_device);
}

void ActivationStore::begin_forward(int layer) {
  if (!is_offloaded(layer)) return;
  Slot& slot = slot_of(layer);
  if (const Parts& host = host_parts(layer); host.input) {
    context_.compute.record(*written_);
    context_.to_host.wait(*written_);
    copy_out(host.input, slot.parts.input);
    context_.to_host.record(*slot.input_copied);
  }
  // The layer writes its attention output where that of two such layers ago was.
  context_.compute.wait(*slot.attention_copied);
}

void ActivationStore::end_forward(int layer) {
  const Parts& host = host_parts(layer);
  if (!host.attention_out) return;
  Slot& slot = slot_of(layer);
  context_.compute.record(*written_);
  context_.to_host.wait(*written_);
  copy_out(host.attention_out, slot.parts.attention_out);
  copy_out(host.lse, slot.parts.lse);
  context_.to_host.record(*slot.attention_copied);
}

void ActivationStore::fetch(int layer) {
  Slot& slot = slot_of(layer);
  if (slot.layer == layer) return;
  slot.layer = layer;
  const Parts& host = host_parts(layer);
  context_.to_device.wait(*slot.unused);
  copy_in(host.input, slot.parts.input);
  if (host.attention_out) {
    copy_in(host.attention_out, slot.parts.attention_out);
    copy_in(host.lse, slot.parts.lse);
  }
  context_.to_device.record(*slot.arrived);
}

void ActivationStore::begin_backward(int layer) {
  if (is_offloaded(layer)) {
    fetch(layer);
    context_.compute.wait(*slot_of(layer).arrived);
  }
  if (const int below = below_[static_cast<std::size_t>(layer)]; below >= 0) fetch(below);
}

void ActivationStore::end_backward(int layer) {
  if (!is_offloaded(layer)) return;
  Slot& slot = slot_of(layer);
  // The last copies out of the slot, which came after those of all layers that were in it before.
  context_.compute.wait(*slot.input_copied);
  context_.compute.wait(*slot.attention_copied);
  context_.compute.record(*slot.unused);
}

}  // namespace ringtrain
