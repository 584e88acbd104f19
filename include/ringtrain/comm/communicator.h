#pragma once

#include <memory>
#include <span>
#include <string>

#include "ringtrain/core/device.h"
#include "ringtrain/core/step_observer.h"
#include "ringtrain/core/tensor.h"

namespace ringtrain {

enum class ReduceOp { kSum, kMax, kMin };

/// One message out and one in, of a ring hop. An absent tensor is neither sent nor received. The
/// k-th message to a rank meets the k-th that this rank receives from here.
struct Transfer {
  Tensor sent;
  int to;
  Tensor received;
  int from;
};

/// What carries the messages of a group (exchange, all_to_all) from GPU to GPU.
enum class Transport {
  kNccl,         ///< NCCL's kernels, on SMs
  kCopyEngines,  ///< copies into the receiver's memory, which take no SM
  kAuto          ///< copy engines where all ranks of all groups of a split can, else NCCL
};

/// How messages travel; without effect where the tensors are not on GPUs.
struct MessageRoute {
  Transport transport = Transport::kNccl;
  int nccl_blocks = 0;      ///< of NCCL's kernels, an SM each; 0: as many as it likes
  int free_processors = 0;  ///< see Communicator; where copy engines carry messages, 0
};

/// A group of ranks that call the same operations in the same order; a group of one works without
/// a special case at the caller. Tensors are in the memory of the communicator's device.
///
/// Every call returns at once: NCCL enqueues on `stream`; MPI starts non-blocking requests that
/// the CPU stream completes; for copy engines the hosts first tell each other where messages go,
/// so each waits for its peers to call as well, but for no work of a stream. Tensors rest until an
/// event or `synchronise()` of that stream says so. Work of one stream is ordered, also between
/// groups; of two streams, only by events. Reductions take fp32, fp64, bf16 (every pair added in
/// fp32 and rounded), int32 and int64, and are deterministic for a given group. Shapes are free:
/// only element counts and dtypes must fit. Errors: InvalidArgument for tensors that do not fit;
/// DeviceError with operation, rank, group.
class Communicator {
 public:
  virtual ~Communicator() = default;
  /// "sp", "ulysses", "tp", "param", "dp", "world": used in messages.
  virtual const std::string& name() const = 0;
  virtual int rank() const = 0;  ///< in [0, size())
  virtual int size() const = 0;
  /// What carries messages (exchange, all_to_all) between ranks, for people: "NCCL", and why
  /// nothing better does where that was asked for. Empty where there is nothing to say.
  virtual std::string carrier() const { return {}; }
  /// SMs that attention beside a message leaves free for it.
  virtual int free_processors() const = 0;
  /// Collective over this group: ranks of equal `color` form a group, ordered by `key`.
  /// Groups of groups send by NCCL. Errors: DeviceError where kCopyEngines is asked for and some
  /// rank cannot map the memory of its peers: on another host, or out of its GPU's reach.
  virtual std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                              const MessageRoute& route) = 0;

  virtual void all_reduce(Tensor inout, ReduceOp op, Stream& stream) = 0;
  /// `whole` is size() shards in rank order; `shard` may be this rank's place in it.
  virtual void all_gather(Tensor shard, Tensor whole, Stream& stream) = 0;
  /// shard = this rank's part of the element-wise reduction of `whole`; may be its place in it.
  virtual void reduce_scatter(Tensor whole, Tensor shard, ReduceOp op, Stream& stream) = 0;
  /// The i-th of size() equal parts of `sent` goes to rank i; that of `received` comes from it. Not
  /// in place.
  virtual void all_to_all(Tensor sent, Tensor received, Stream& stream) = 0;
  virtual void broadcast(Tensor inout, int root, Stream& stream) = 0;
  /// One ring hop: all transfers in one group, so no order of ranks can deadlock.
  virtual void exchange(std::span<const Transfer> transfers, Stream& stream) = 0;
  /// Collective: peers let go of memory in which this rank has received messages. Such memory is
  /// freed after this, or after the group.
  virtual void release() {}
  /// Throws DeviceError if work failed after it was enqueued. Callable from any thread.
  virtual void check() = 0;
  /// Ends the whole world, so that no peer waits for ever. Callable from any thread.
  virtual void abort() noexcept = 0;
};

/// A group of one rank on any device: collectives copy or do nothing.
std::unique_ptr<Communicator> make_one_rank_communicator(Device& device);
/// Rank `rank` of a group of `size` that moves nothing, for the meta device.
std::unique_ptr<Communicator> make_meta_communicator(std::string name, int rank, int size);
/// `group`, with every operation a region for `observer`, which outlives it: {"all_gather", group,
/// bytes}. A group of one rank, which sends nothing, stays as it is.
std::unique_ptr<Communicator> make_observed_communicator(std::unique_ptr<Communicator> group,
                                                         StepObserver& observer);

}  // namespace ringtrain
