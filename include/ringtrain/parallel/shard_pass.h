#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/parameter_table.h"

namespace ringtrain {

/// A family that a pass works on, and how.
struct ShardUse {
  const ShardFamily* family;
  bool is_read = true;
  bool is_written = false;  ///< without is_read: every element of every shard
};

/// Work on families of shards, one unit after the other, wherever the families are. Those in host
/// memory pass through two stages of device memory by turns: while one unit is worked on, the next
/// comes in and the one before goes out, each copy on a stream of its own.
class ShardPass {
 public:
  /// The arguments must outlive this.
  ShardPass(Context& context, const ParameterTable& table);

  /// Calls body(unit, shards) for every unit in order; shards[i] is the unit's shard of uses[i] in
  /// device memory, for work that the body enqueues on `stream`. Stages lie in the arena until
  /// `run` returns. What the stream is given afterwards comes after all copies; the host is not
  /// synchronised.
  using Body = std::function<void(std::size_t unit, std::span<const Tensor> shards)>;
  void run(const std::vector<ShardUse>& uses, Stream& stream, const Body& body);

 private:
  struct Stage {
    std::vector<Tensor> buffers;  // by use; absent for families on the device
    std::unique_ptr<Event> arrived;
    std::unique_ptr<Event> computed;
    std::unique_ptr<Event> left;
  };
  void allocate_stages(const std::vector<ShardUse>& uses);
  void fetch(const std::vector<ShardUse>& uses, std::size_t unit);
  void send_back(const std::vector<ShardUse>& uses, std::size_t unit);
  Tensor staged(const ShardUse& use, std::size_t use_index, std::size_t unit) const;

  Context& context_;
  const ParameterTable& table_;
  std::array<Stage, 2> stages_;
  std::unique_ptr<Event> begun_;
};

}  // namespace ringtrain
