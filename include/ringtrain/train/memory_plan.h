#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <string>

#include "ringtrain/core/arena.h"
#include "ringtrain/parallel/context.h"

namespace ringtrain {

/// What a program will do with its memory: constructs everything that lives in the arenas and runs
/// one of each kind of step.
using Rehearsal = std::function<void(Context&)>;

/// The arenas of one rank at their fullest, in bytes.
struct MemoryPlan {
  struct Side {
    std::size_t bytes = 0;  ///< size of the arena
    std::array<std::size_t, kNumMemoryKinds> by_kind{};
  };
  Side device;
  Side host;
};

/// Which sides of a plan there is memory for.
struct MemoryFit {
  bool device;
  bool host;
};

/// The rank that a plan is for: its place, and whose back end it will compute with.
struct PlannedRank {
  MeshShape mesh;
  MeshCoordinates coordinates;
  DeviceType device;
  DType compute_dtype;
};

/// Runs `rehearsal` for `rank` on the meta device, where the same code asks for the same memory and
/// computes nothing; needs neither a GPU nor other ranks. `observer` hears of all that is enqueued;
/// without one, repetitions that ask for no more memory are left out.
/// Errors: those of the rehearsal, for shapes that the mesh cannot cut.
MemoryPlan plan_memory(const PlannedRank& rank, const Rehearsal& rehearsal,
                       StepObserver* observer = nullptr);

/// The start of a rank's arena: the workspace of its back end.
void bind_workspace(Backend& ops, Arena& arena);

/// Kinds and sums as lines of text, in MiB.
std::string format_table(const MemoryPlan& plan);

}  // namespace ringtrain
