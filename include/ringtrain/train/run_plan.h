#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ringtrain/config/train_config.h"
#include "ringtrain/train/memory_plan.h"

/// The memory of a training run on a machine that is not here: `ringtrain plan`.
namespace ringtrain {

/// What a plan takes for granted of the machine.
struct PlannedMachine {
  DeviceType device;
  int world_size;
  int ranks_per_host;
  std::size_t device_bytes;  ///< of one device; on the CPU 0: it is the host's
  std::size_t host_bytes;    ///< of one host
};
/// From --device (auto: cuda), --world_size and the sizes. Errors: InvalidArgument.
PlannedMachine planned_machine(const TrainConfig& config);

/// Memory beside the arenas, with how far off it may be. Measured on one H100
/// (bench/plan_check.py): 533 to 540 MiB for CUDA, 409 to 549 MiB for a process without a data
/// pipeline. The rest are estimates.
struct Estimate {
  std::size_t bytes;
  std::size_t error;
};
inline constexpr std::size_t kMebibyte = std::size_t{1} << 20;
inline constexpr Estimate kCudaContext{600 * kMebibyte, 100 * kMebibyte};
/// Of each group of more than one rank: NCCL's channels and buffers.
inline constexpr Estimate kNcclGroup{256 * kMebibyte, 256 * kMebibyte};
/// Host memory of one rank's process: program, MPI, tokenizer, data pipeline, CUDA's own.
inline constexpr Estimate kCudaProcess{1024 * kMebibyte, 640 * kMebibyte};
inline constexpr Estimate kCpuProcess{512 * kMebibyte, 256 * kMebibyte};

/// The plan of the fullest rank and of what it shares.
struct RunPlan {
  MemoryPlan rank;
  Estimate context;  ///< device memory of CUDA itself
  Estimate nccl;     ///< device memory of all groups
  Estimate process;  ///< host memory of one rank
  /// Arena, context, NCCL and reserve; 0 on the CPU, whose device is its host.
  std::size_t device_used;
  std::size_t host_used;  ///< all ranks of a host and a reserve; on the CPU with their arenas
  bool fits_device;
  bool fits_host;

  bool fits() const { return fits_device && fits_host; }
};

/// `config` is resolved and valid on the mesh; remat_block is not auto.
RunPlan plan_run(const TrainConfig& config, const PlannedMachine& machine);

/// `config` with remat_block=auto replaced by the mix that fits the machine, or by the one that
/// keeps least where none does; other policies rest.
TrainConfig with_chosen_remat(TrainConfig config, const PlannedMachine& machine);

/// What one change of the settings would free; negative where it costs.
struct Saving {
  std::string change;         ///< "--llama.scan_mlp=True"
  std::int64_t device_bytes;  ///< of the fullest rank; on the CPU of both its arenas
  std::int64_t host_bytes;    ///< likewise, of its arena in host memory; on the CPU 0
};
/// All changes that free device memory (memory of the host on the CPU), the greatest first.
std::vector<Saving> savings(const TrainConfig& config, const PlannedMachine& machine);

/// The longest train_dataset.json_dataset.seq_length that fits, a multiple of 1024 and of what the
/// layout needs; 0 where none does. Asks of about 2 log2(answer / 1024) lengths whether they fit;
/// with remat_block=auto each takes a choice of its own (train/remat_choice.h).
std::int64_t longest_context(const TrainConfig& config, const PlannedMachine& machine);

}  // namespace ringtrain
