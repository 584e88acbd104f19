#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "ringtrain/model/decoder_layer.h"
#include "ringtrain/model/remat.h"
#include "ringtrain/parallel/context.h"

namespace ringtrain {

/// Where the activations of each layer are between its forward and its backward pass: in the arena,
/// or, by the layer's RematPlan, in host memory. Layers of the second kind compute in two slots of
/// device memory by turns, and copies run beside the compute stream, ordered with it by events:
///
///   to_host    layer l's input while it computes forward, its attention output behind layer l + 1
///   to_device  both one such layer ahead of its backward pass
///
/// The last two such layers stay in their slots until the backward pass, and need no host memory.
/// Calls of a micro-batch, for each layer in this order: open, begin_forward, end_forward, then
/// begin_backward and end_backward in the opposite order of layers.
class ActivationStore {
 public:
  /// `context` must outlive this. One plan a layer.
  ActivationStore(Context& context, const LayerShape& shape, std::vector<RematPlan> plans);

  /// Room for the slots and for what goes to the host, in the innermost scopes of both arenas.
  void begin_step();
  /// Room for what the layer keeps, its input included, in the innermost scope of the arena. The
  /// compute stream may write the input from here on.
  LayerActivations open(int layer);
  /// The compute stream has been given the work that writes the input, and goes on to the layer.
  void begin_forward(int layer);
  void end_forward(int layer);
  /// What `open` returned is there again for the compute stream, until end_backward.
  void begin_backward(int layer);
  void end_backward(int layer);

 private:
  /// What may leave the device.
  struct Parts {
    Tensor input, attention_out, lse;
  };
  struct Slot {
    Parts parts;
    int layer = -1;  // whose data it holds
    std::unique_ptr<Event> input_copied;
    std::unique_ptr<Event> attention_copied;
    std::unique_ptr<Event> arrived;
    std::unique_ptr<Event> unused;  // compute has finished with it
  };

  const RematPlan& plan(int layer) const { return plans_[static_cast<std::size_t>(layer)]; }
  bool is_offloaded(int layer) const { return plan(layer).input_on_host; }
  const Parts& host_parts(int layer) const { return host_[static_cast<std::size_t>(layer)]; }
  Slot& slot_of(int layer) { return slots_[slot_index_[static_cast<std::size_t>(layer)]]; }
  Parts allocate_parts(Arena& arena, bool with_attention) const;
  void copy_out(const Tensor& host, const Tensor& device);
  void copy_in(const Tensor& host, const Tensor& device);
  /// Starts bringing an offloaded layer back unless its slot still holds it.
  void fetch(int layer);

  Context& context_;
  LayerShape shape_;
  std::vector<RematPlan> plans_;
  std::vector<std::size_t> slot_index_;  // by layer
  std::vector<int> below_;               // by layer: the next offloaded one in backward, or -1
  std::array<Slot, 2> slots_;
  std::vector<Parts> host_;  // by layer; empty where nothing leaves the device
  std::unique_ptr<Event> written_;
};

}  // namespace ringtrain
