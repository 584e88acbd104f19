#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ringtrain/comm/communicator.h"

namespace ringtrain {

/// The job as MPI started it: one object per process, made first and destroyed last.
/// The control plane for small host data (configuration, batches, checkpoints, errors); tensors
/// travel by Communicator. All collective methods are called by every rank in the same order, on
/// one thread; `duplicate` gives another thread a plane of its own.
class World {
 public:
  virtual ~World() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Rank among, and number of, the ranks of this host.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  virtual const std::string& host_name() const = 0;

  virtual void barrier() = 0;
  /// Root's bytes on every rank.
  virtual std::string broadcast(std::string bytes, int root = 0) = 0;
  /// Every rank's bytes, in rank order, on every rank.
  virtual std::vector<std::string> all_gather(const std::string& bytes) = 0;
  /// Messages up to this length are buffered, so that both of two ranks may send first.
  static constexpr std::size_t kBufferedBytes = std::size_t{1} << 20;
  /// Non-collective message of known peers. `send` of a longer one blocks until it is taken.
  virtual void send(const std::string& bytes, int to) = 0;
  virtual std::string receive(int from) = 0;
  /// Blocks until what was sent needs this rank no longer. For a rank that goes on to wait for
  /// something else than the control plane: a buffered message may travel only while its sender is
  /// in a call.
  virtual void finish_sends() = 0;
  /// True on every rank if true on any.
  virtual bool any(bool value) = 0;

  /// A message that never blocks its sender, for heartbeats and last words. False, and nothing is
  /// sent, while the message posted before to the same rank has not been taken.
  virtual bool post(std::string bytes, int to) = 0;
  struct Posted {
    int from;
    std::string bytes;
  };
  /// A posted message of any rank, if one has arrived. Never blocks.
  virtual std::optional<Posted> poll() = 0;

  /// Collective: an independent plane for another thread.
  virtual std::unique_ptr<World> duplicate() = 0;
  /// Collective: a communicator over all ranks for tensors of `device` (MPI for the CPU, NCCL for
  /// CUDA, no-op for meta), to be split into the mesh's groups.
  virtual std::unique_ptr<Communicator> make_communicator(Device& device) = 0;
  /// Ends all ranks with `exit_code` after stderr is flushed. Callable from any thread.
  [[noreturn]] virtual void abort(int exit_code) noexcept = 0;
};

/// Initialises MPI with MPI_THREAD_MULTIPLE (works without mpirun: a world of one). Destroying the
/// World finalises MPI, after everything that was made from it is gone.
/// Errors: DeviceError if threads are not granted; those of `check_launch`.
std::unique_ptr<World> initialise_world(int* argc, char*** argv);

/// How many ranks the launcher says it started (OMPI_COMM_WORLD_SIZE, PMI_SIZE, SLURM_NTASKS; the
/// first that is set counts, so mpirun inside a Slurm job is right); 1 without a launcher. Known
/// before MPI starts.
int launched_ranks();

/// Compares the ranks MPI sees with launched_ranks().
/// Errors: InvalidArgument if MPI sees fewer: N singletons, each of which would believe it is the
/// whole job.
void check_launch(int world_size);
/// True if a launcher gave this process a process manager (PMI, PMIx), without which MPI can find
/// no other rank.
bool has_process_manager();

/// Chooses this rank's device. `device` is "auto", "cuda" or "cpu"; auto takes the GPU if every
/// rank has one. Collective. GPU ordinal = local_rank modulo visible GPUs.
/// Errors: DeviceError if cuda is asked for and absent; InvalidArgument if two ranks share a GPU
/// (compared by UUID) without `oversubscribe_gpu`. With it, prepares NCCL for ranks that share a
/// device (NCCL_HOSTID and socket transport), before the first NCCL call.
std::unique_ptr<Device> choose_device(World& world, const std::string& device,
                                      bool oversubscribe_gpu);

}  // namespace ringtrain
