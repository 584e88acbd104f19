#pragma once

#include <memory>

#include "ringtrain/parallel/context.h"

namespace ringtrain {

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
  std::unique_ptr<Stream> beside_;
  std::unique_ptr<Stream> to_host_;
  std::unique_ptr<Stream> to_device_;
  std::unique_ptr<Backend> ops_;
  DeviceMemory memory_;
  Arena arena_;
  HostMemory host_memory_;
  Arena host_;
  Context context_;
};

}  // namespace ringtrain
