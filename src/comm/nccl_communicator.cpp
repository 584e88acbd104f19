#include "nccl_communicator.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nccl.h>

#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "collective_check.h"
#include "mpi_support.h"
#include "peer_copy_communicator.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kFloat64:
      return ncclFloat64;
    case DType::kBFloat16:
      return ncclBfloat16;
    case DType::kFloat16:
      return ncclFloat16;
    case DType::kInt32:
      return ncclInt32;
    case DType::kInt64:
      break;
  }
  return ncclInt64;
}

ncclRedOp_t nccl_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return ncclSum;
    case ReduceOp::kMax:
      return ncclMax;
    case ReduceOp::kMin:
      break;
  }
  return ncclMin;
}

std::size_t count_of(const Tensor& tensor) {
  return static_cast<std::size_t>(tensor.num_elements());
}

class NcclCommunicator final : public Communicator {
 public:
  /// Takes `comm` as its own. `plane` is that of the same ranks, or null: then messages of the
  /// groups that are split from this one are NCCL's.
  NcclCommunicator(ncclComm_t comm, std::string name, int rank, int size, int free_processors,
                   Device& device, std::shared_ptr<World> plane)
      : comm_(comm),
        name_(std::move(name)),
        rank_(rank),
        size_(size),
        free_processors_(free_processors),
        device_(device),
        plane_(std::move(plane)) {}
  ~NcclCommunicator() override {
    // Destroying waits for the work of the peers, who may not answer when an error is on its way.
    if (std::uncaught_exceptions() > 0) return;
    ncclCommDestroy(comm_);
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  const std::string& name() const override { return name_; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string carrier() const override { return "NCCL"; }
  int free_processors() const override { return free_processors_; }

  std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                      const MessageRoute& route) override {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    if (route.nccl_blocks > 0) {
      config.minCTAs = config.maxCTAs = route.nccl_blocks;
      // NCCL's clusters of 4 blocks would wait for 4 free SMs of one GPC; those left free lie
      // anywhere.
      config.cgaClusterSize = 0;
    }
    ncclComm_t part = nullptr;
    // Groups work on streams of their own at the same time, so none shares another's buffers.
    check_nccl(ncclCommSplit(comm_, color, key, &part, &config), "split");
    int rank = 0;
    int size = 1;
    check_nccl(ncclCommUserRank(part, &rank), "split");
    check_nccl(ncclCommCount(part, &size), "split");
    auto group = std::make_unique<NcclCommunicator>(part, std::move(name), rank, size,
                                                    route.free_processors, device_, nullptr);
    if (route.transport == Transport::kNccl || !plane_) return group;
    return with_peer_copies(std::move(group), color, route.transport, plane_, device_);
  }

  void all_reduce(Tensor inout, ReduceOp op, Stream& stream) override {
    check_reducible("all_reduce", name_, inout);
    check_nccl(ncclAllReduce(inout.raw(), inout.raw(), count_of(inout), nccl_type(inout.dtype()),
                             nccl_op(op), comm_, native(stream)),
               "all_reduce");
  }

  void all_gather(Tensor shard, Tensor whole, Stream& stream) override {
    check_parts("all_gather", name_, size_, shard, whole);
    check_nccl(
        ncclAllGather(shard.raw(), whole.raw(), shard.bytes(), ncclInt8, comm_, native(stream)),
        "all_gather");
  }

  void reduce_scatter(Tensor whole, Tensor shard, ReduceOp op, Stream& stream) override {
    check_reducible("reduce_scatter", name_, whole);
    check_parts("reduce_scatter", name_, size_, shard, whole);
    check_nccl(ncclReduceScatter(whole.raw(), shard.raw(), count_of(shard),
                                 nccl_type(shard.dtype()), nccl_op(op), comm_, native(stream)),
               "reduce_scatter");
  }

  void all_to_all(Tensor sent, Tensor received, Stream& stream) override {
    check_all_to_all(name_, size_, sent, received);
    const std::size_t bytes = sent.bytes() / static_cast<std::size_t>(size_);
    grouped("all_to_all", [&] {
      for (int peer = 0; peer < size_; ++peer) {
        const std::size_t offset = bytes * static_cast<std::size_t>(peer);
        send(static_cast<std::byte*>(sent.raw()) + offset, bytes, peer, stream);
        receive(static_cast<std::byte*>(received.raw()) + offset, bytes, peer, stream);
      }
    });
  }

  void broadcast(Tensor inout, int root, Stream& stream) override {
    check_rank("broadcast", name_, size_, root);
    check_nccl(ncclBroadcast(inout.raw(), inout.raw(), inout.bytes(), ncclInt8, root, comm_,
                             native(stream)),
               "broadcast");
  }

  void exchange(std::span<const Transfer> transfers, Stream& stream) override {
    check_exchange(name_, size_, transfers);
    grouped("exchange", [&] {
      for (const Transfer& transfer : transfers) {
        if (transfer.sent) send(transfer.sent.raw(), transfer.sent.bytes(), transfer.to, stream);
        if (transfer.received) {
          receive(transfer.received.raw(), transfer.received.bytes(), transfer.from, stream);
        }
      }
    });
  }

  void check() override {
    ncclResult_t state = ncclSuccess;
    check_nccl(ncclCommGetAsyncError(comm_, &state), "reading the state of the group");
    check_nccl(state, "an operation in flight");
  }

  void abort() noexcept override { abort_world(static_cast<int>(ExitCode::kDevice)); }

 private:
  static cudaStream_t native(const Stream& stream) {
    return static_cast<cudaStream_t>(stream.native());
  }

  void check_nccl(ncclResult_t status, const char* operation) const {
    if (status == ncclSuccess || status == ncclInProgress) return;
    const char* detail = ncclGetLastError(comm_);
    throw DeviceError(fmt::format("{} failed on rank {} of group {}: {}{}{}", operation, rank_,
                                  name_, ncclGetErrorString(status),
                                  detail == nullptr || *detail == '\0' ? "" : ": ",
                                  detail == nullptr ? "" : detail));
  }

  /// All calls of `body` as one NCCL group, which is closed also if one of them throws.
  template <typename Body>
  void grouped(const char* operation, Body&& body) {
    check_nccl(ncclGroupStart(), operation);
    try {
      body();
    } catch (...) {
      ncclGroupEnd();
      throw;
    }
    check_nccl(ncclGroupEnd(), operation);
  }
  void send(const void* data, std::size_t bytes, int to, Stream& stream) {
    check_nccl(ncclSend(data, bytes, ncclInt8, to, comm_, native(stream)), "send");
  }
  void receive(void* data, std::size_t bytes, int from, Stream& stream) {
    check_nccl(ncclRecv(data, bytes, ncclInt8, from, comm_, native(stream)), "receive");
  }

  ncclComm_t comm_;
  std::string name_;
  int rank_;
  int size_;
  int free_processors_;
  Device& device_;
  std::shared_ptr<World> plane_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(World& world, Device& device) {
  const auto check_bootstrap = [&](ncclResult_t status, const char* operation) {
    if (status == ncclSuccess) return;
    const char* detail = ncclGetLastError(nullptr);
    throw DeviceError(fmt::format(
        "{} failed on rank {} of group world: {}: {} (NCCL_DEBUG=WARN "
        "says more)",
        operation, world.rank(), ncclGetErrorString(status), detail == nullptr ? "" : detail));
  };
  // The id of rank 0 reaches the others even if making it failed, so that none waits for ever.
  ncclUniqueId id{};
  ncclResult_t status = ncclSuccess;
  if (world.rank() == 0) status = ncclGetUniqueId(&id);
  std::string bytes(reinterpret_cast<const char*>(&id), sizeof id);
  if (status != ncclSuccess) bytes.clear();
  bytes = world.broadcast(std::move(bytes), 0);
  check_bootstrap(status, "ncclGetUniqueId");
  if (bytes.size() != sizeof id) throw DeviceError("ncclGetUniqueId failed on rank 0");
  std::memcpy(&id, bytes.data(), sizeof id);

  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  ncclComm_t comm = nullptr;
  device.make_event();  // makes the device current on this thread, which NCCL takes as its own
  check_bootstrap(ncclCommInitRankConfig(&comm, world.size(), id, world.rank(), &config),
                  "ncclCommInitRankConfig");
  return std::make_unique<NcclCommunicator>(comm, "world", world.rank(), world.size(),
                                            /*free_processors=*/0, device, world.duplicate());
}

}  // namespace ringtrain
