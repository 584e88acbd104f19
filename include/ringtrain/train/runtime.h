#pragma once

#include <functional>
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

namespace ringtrain {

/// Everything one rank runs on, owned in one place: device, streams, mesh, back end, arena.
class Runtime {
 public:
  /// Chooses the device and makes the mesh's communicators. Collective over `world`.
  /// Errors: those of choose_device, mesh_shape_of and make_mesh.
  Runtime(World& world, const TrainConfig& config);

  /// What the program will do with its memory: constructs everything that lives in the arena and
  /// runs one of each kind of step.
  using Rehearsal = std::function<void(Context&)>;
  /// Runs `rehearsal` on the meta device to learn the arena's size, then allocates it; once.
  /// Collective. Errors: DeviceError with the plan's table where a device has less memory free
  /// than the ranks on it want together.
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
  /// The largest arena of any rank, in bytes. Valid after `allocate`.
  std::size_t fullest_rank_bytes() const { return fullest_rank_bytes_; }

  /// How far the device is in the step of that number; steps are told to it.
  ProgressMarks& marks() { return marks_; }
  /// Times the regions of single steps on the streams compute, ring and params, in this order.
  StreamTrace& trace() { return trace_; }

 private:
  std::size_t memory_wanted(std::size_t bytes);

  World& world_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Communicator> all_ranks_;
  std::unique_ptr<Stream> compute_;
  std::unique_ptr<Stream> ring_;
  std::unique_ptr<Stream> params_;
  ProgressMarks marks_;
  StreamTrace trace_;
  StepObservers observers_;
  Mesh mesh_;
  std::unique_ptr<Backend> ops_;
  std::unique_ptr<DeviceMemory> memory_;
  std::optional<Arena> arena_;
  std::unique_ptr<Context> context_;
  std::string memory_table_;
  std::size_t fullest_rank_bytes_ = 0;
  DType compute_dtype_;
};

/// Lets `watchdog` look after the groups and the progress of a runtime, which must live until its
/// shutdown.
void watch_runtime(Watchdog& watchdog, Runtime& runtime);

}  // namespace ringtrain
