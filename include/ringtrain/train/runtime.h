#pragma once

#include <memory>
#include <optional>
#include <string>

#include "ringtrain/comm/watchdog.h"
#include "ringtrain/comm/wire_bytes.h"
#include "ringtrain/comm/world.h"
#include "ringtrain/config/train_config.h"
#include "ringtrain/core/progress_marks.h"
#include "ringtrain/core/stream_trace.h"
#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/selftest.h"
#include "ringtrain/train/memory_plan.h"

namespace ringtrain {

/// Everything one rank runs on, owned in one place: device, streams, mesh, back end, arenas.
class Runtime {
 public:
  /// Chooses the device and makes the mesh's communicators. Collective over `world`.
  /// Errors: those of choose_device, mesh_shape_of and make_mesh.
  Runtime(World& world, const TrainConfig& config);

  /// What `rehearsal` asks for on this rank.
  MemoryPlan plan(const Rehearsal& rehearsal) const;
  /// Collective: whether what all ranks want is free on their devices and hosts, with the
  /// reserves of train/memory_reserve.h left. Valid before `allocate`.
  MemoryFit fits(const MemoryPlan& plan);
  /// Allocates what `rehearsal` asks for, once; nothing is allocated in steps. Collective.
  /// Errors: DeviceError with the plan's table where a device or a host has less memory free than
  /// the ranks on it want together.
  void allocate(const Rehearsal& rehearsal);
  /// What this rank sends in `rehearsal`, which runs on the meta device as well.
  WireBytes count_wire_bytes(const Rehearsal& rehearsal);

  World& world() { return world_; }
  Device& device() { return *device_; }
  const Mesh& mesh() const { return mesh_; }
  /// Valid after `allocate`.
  Context& context() { return *context_; }
  /// Bytes by kind, from the rehearsal, as lines of text. Valid after `allocate`.
  const std::string& memory_table() const { return memory_table_; }
  /// The largest arenas of any rank, in bytes. Valid after `allocate`.
  std::size_t fullest_rank_bytes() const { return fullest_rank_bytes_; }
  std::size_t fullest_rank_host_bytes() const { return fullest_rank_host_bytes_; }

  /// What a self-test runs on, before `allocate`.
  Selftest::Rank selftest_rank() { return {*device_, *ops_, mesh_, *compute_, *ring_}; }

  /// How far the device is in the step of that number; steps are told to it.
  ProgressMarks& marks() { return marks_; }
  /// Times the regions of single steps on the streams compute, ring and params, in this order.
  StreamTrace& trace() { return trace_; }

 private:
  /// Bytes that all ranks together want of what this rank shares with others.
  struct Demand {
    std::size_t device = 0, host = 0;
    std::size_t fullest_rank = 0;       ///< the largest arena of any rank
    std::size_t fullest_rank_host = 0;  ///< likewise in host memory
  };
  Demand demand(const MemoryPlan& plan);

  World& world_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<DeviceMemory> memory_;  // until no peer of the mesh has it mapped
  std::unique_ptr<Communicator> all_ranks_;
  std::unique_ptr<Stream> compute_;
  std::unique_ptr<Stream> ring_;
  std::unique_ptr<Stream> params_;
  std::unique_ptr<Stream> beside_;
  std::unique_ptr<Stream> to_host_;
  std::unique_ptr<Stream> to_device_;
  ProgressMarks marks_;
  StreamTrace trace_;
  StepObservers observers_;
  Mesh mesh_;
  std::unique_ptr<Backend> ops_;
  std::unique_ptr<HostMemory> host_memory_;
  std::optional<Arena> arena_;
  std::optional<Arena> host_;
  std::unique_ptr<Context> context_;
  std::string memory_table_;
  std::size_t fullest_rank_bytes_ = 0;
  std::size_t fullest_rank_host_bytes_ = 0;
  DType compute_dtype_;
};

/// Lets `watchdog` look after the groups and the progress of a runtime, which must live until its
/// shutdown.
void watch_runtime(Watchdog& watchdog, Runtime& runtime);

}  // namespace ringtrain
