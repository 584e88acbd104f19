#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "ringtrain/core/tensor.h"

namespace ringtrain {

/// What a piece of device memory is for; the rows of the memory plan.
enum class MemoryKind {
  kParameters,
  kGradients,
  kOptimizer,
  kActivations,
  kWorkspace,
  kRing,
  kBatch
};
inline constexpr int kNumMemoryKinds = 7;
std::string_view name_of(MemoryKind kind);

/// All device memory of a rank, handed out as a stack: a step's tensors live and die in nested
/// scopes, so allocation is an addition and nothing is ever fragmented.
///
/// The size is found by running the first step on the meta device with an unbounded arena
/// (`Arena::measuring()`), whose peak is then allocated once: running out of memory happens
/// before the first step or never.
class Arena {
 public:
  static constexpr std::size_t kAlignment = 1024;  // swizzled shared-memory tiles, TMA, cuBLAS
  /// What a tensor of so many bytes takes.
  static constexpr std::size_t aligned(std::size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  /// An arena over [memory, memory + bytes). The memory stays the caller's.
  Arena(void* memory, std::size_t bytes);
  /// An arena without memory or bound, for the meta device: its tensors must never be read.
  static Arena measuring();

  /// Uninitialised memory until the innermost open Scope ends.
  /// Errors: DeviceError naming what was wanted, what is used and what there is.
  Tensor allocate(Shape shape, DType dtype, MemoryKind kind);

  std::size_t used() const { return used_; }
  /// Largest `used` so far, and what it was made of, by MemoryKind.
  std::size_t peak() const { return peak_; }
  const std::array<std::size_t, kNumMemoryKinds>& peak_by_kind() const { return peak_by_kind_; }

  /// Frees on destruction everything that was allocated since construction.
  class Scope {
   public:
    explicit Scope(Arena& arena)
        : arena_(arena), used_(arena.used_), by_kind_(arena.used_by_kind_) {}
    ~Scope() {
      arena_.used_ = used_;
      arena_.used_by_kind_ = by_kind_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    std::size_t used_;
    std::array<std::size_t, kNumMemoryKinds> by_kind_;
  };

 private:
  std::byte* memory_;
  std::size_t bytes_;
  std::size_t used_ = 0;
  std::size_t peak_ = 0;
  std::array<std::size_t, kNumMemoryKinds> used_by_kind_{};
  std::array<std::size_t, kNumMemoryKinds> peak_by_kind_{};
};

}  // namespace ringtrain
