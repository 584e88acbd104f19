#pragma once

#include <memory>

#include "ringtrain/parallel/context.h"

namespace ringtrain {

/// A mesh whose communicators know rank and size and move nothing: enough for what only asks where
/// a rank is, such as reading a checkpoint.
Mesh place_only_mesh(const MeshShape& shape, const MeshCoordinates& coordinates);
/// The mesh of a single rank.
Mesh one_rank_mesh(Device& device);

/// A Context with all it refers to, for one rank of a test.
class RankContext {
 public:
  RankContext(Device& device, Mesh mesh);

  Context& operator*() { return context_; }
  Context* operator->() { return &context_; }
  Backend& ops() { return *ops_; }
  Stream& stream() { return *compute_; }

 private:
  Mesh mesh_;
  std::unique_ptr<Stream> compute_;
  std::unique_ptr<Stream> ring_;
  std::unique_ptr<Stream> params_;
  std::unique_ptr<Backend> ops_;
  DeviceMemory memory_;
  Arena arena_;
  Context context_;
};

}  // namespace ringtrain
