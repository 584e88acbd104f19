#pragma once

#include <memory>
#include <optional>

#include "ringtrain/parallel/context.h"

namespace ringtrain {

/// The context of a run on one CPU rank, whatever world the test runs in: the reference that runs
/// on a mesh are compared with.
class OneRankContext {
 public:
  OneRankContext(DType compute_dtype, std::size_t arena_bytes);
  Context& operator*() { return *context_; }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Backend> ops_;
  Mesh mesh_;
  std::unique_ptr<Stream> compute_, ring_, params_;
  std::unique_ptr<DeviceMemory> memory_;
  std::optional<Arena> arena_;
  std::optional<Context> context_;
};

}  // namespace ringtrain
