#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ringtrain/comm/world.h"
#include "ringtrain/data/batch.h"
#include "ringtrain/data/cut_batch.h"
#include "ringtrain/parallel/mesh.h"
#include "ringtrain/parallel/sequence_layout.h"

namespace ringtrain {

struct FeederSettings {
  MeshShape shape;
  std::string mesh_order = "tp,sp,fsdp,dp";
  std::vector<SequenceLayout> layouts;  ///< GlobalBatch::layout says which one cuts a batch
  CutOptions cut;
  std::int64_t vocab_size = 0;  ///< of the model: every token id must be below; 0: not checked
};

/// Gives every rank its part of each batch. Rank 0 alone has the source, so text is tokenised once
/// per job; its parts travel to the others in the background, one batch ahead of the step.
///
/// All ranks call `next` equally often. Destroying a feeder is collective, at any time; where an
/// exception is on its way it waits for nobody, because the peers may never come: the job ends.
class BatchFeeder {
 public:
  using Open = std::function<std::unique_ptr<BatchSource>()>;

  /// Collective over `world`, which it duplicates. `open` is called on rank 0.
  /// Errors: those of `open`, on every rank; InvalidArgument if `shape` is not of world's size.
  BatchFeeder(World& world, const Open& open, FeederSettings settings);
  ~BatchFeeder();
  BatchFeeder(const BatchFeeder&) = delete;
  BatchFeeder& operator=(const BatchFeeder&) = delete;

  /// Waits for this rank's part of the next batch. Errors: those of the source, of cut_batch and of
  /// check_token_ids, on every rank and with their type; after one, the same again.
  LocalBatch next();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringtrain
