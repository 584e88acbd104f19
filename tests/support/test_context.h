#pragma once

#include <memory>
#include <optional>
#include <string>

#include "ringtrain/comm/world.h"
#include "ringtrain/parallel/context.h"

namespace ringtrain {

/// A Context with everything behind it, an arena of a given size and a quarter of it in host
/// memory, for tests of what runs on a mesh.
class TestContext {
 public:
  /// One CPU rank, whatever world the test runs in: what a run on a mesh is compared with.
  TestContext(DType compute_dtype, std::size_t arena_bytes)
      : TestContext(DeviceType::kCpu, compute_dtype, arena_bytes) {}
  /// The same on a device of the CPU's type.
  TestContext(std::unique_ptr<Device> device, DType compute_dtype, std::size_t arena_bytes);
  /// The same on a device.
  TestContext(DeviceType device, DType compute_dtype, std::size_t arena_bytes);
  /// All ranks of `world` as the mesh `mesh_dim`, its sp axis in ulysses groups of `ulysses` ranks;
  /// collective. GPU ranks may share a GPU.
  TestContext(World& world, const std::string& mesh_dim, DeviceType device, DType compute_dtype,
              std::size_t arena_bytes, int ulysses = 1, Transport transport = Transport::kNccl);

  Context& operator*() { return *context_; }
  Context* operator->() { return &*context_; }

 private:
  void finish_alone(DType compute_dtype, std::size_t arena_bytes);
  void finish(DType compute_dtype, std::size_t arena_bytes);

  std::unique_ptr<Device> device_;
  std::unique_ptr<DeviceMemory> memory_;  // until no peer of the mesh has it mapped
  std::unique_ptr<Communicator> all_ranks_;
  std::unique_ptr<Backend> ops_;
  Mesh mesh_;
  std::unique_ptr<Stream> compute_, ring_, params_, beside_, to_host_, to_device_;
  std::unique_ptr<HostMemory> host_memory_;
  std::optional<Arena> arena_;
  std::optional<Arena> host_;
  std::optional<Context> context_;
};

}  // namespace ringtrain
