#include "ringtrain/comm/mpi_communicator.h"

#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "collective_check.h"
#include "mpi_support.h"
#include "mpi_world.h"
#include "ringtrain/core/cpu_stream.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr int kTransferTag = 0;

template <typename Combine>
void combine_bf16(void* in, void* inout, int* count) {
  const auto* from = static_cast<const bfloat16*>(in);
  auto* to = static_cast<bfloat16*>(inout);
  for (int i = 0; i < *count; ++i) {
    to[i] = bfloat16(Combine{}(static_cast<float>(to[i]), static_cast<float>(from[i])));
  }
}
struct Sum {
  float operator()(float a, float b) const { return a + b; }
};
struct Maximum {
  float operator()(float a, float b) const { return std::max(a, b); }
};
struct Minimum {
  float operator()(float a, float b) const { return std::min(a, b); }
};

/// MPI knows no bf16: reductions of its bits, shared by a group and all that are split from it.
class Bf16Operations {
 public:
  Bf16Operations() {
    MPI_Op_create([](void* in, void* out, int* n, MPI_Datatype*) { combine_bf16<Sum>(in, out, n); },
                  1, &sum);
    MPI_Op_create(
        [](void* in, void* out, int* n, MPI_Datatype*) { combine_bf16<Maximum>(in, out, n); }, 1,
        &max);
    MPI_Op_create(
        [](void* in, void* out, int* n, MPI_Datatype*) { combine_bf16<Minimum>(in, out, n); }, 1,
        &min);
  }
  ~Bf16Operations() {
    if (!mpi_is_running()) return;
    for (MPI_Op* operation : {&sum, &max, &min}) MPI_Op_free(operation);
  }
  Bf16Operations(const Bf16Operations&) = delete;
  Bf16Operations& operator=(const Bf16Operations&) = delete;

  MPI_Op sum = MPI_OP_NULL;
  MPI_Op max = MPI_OP_NULL;
  MPI_Op min = MPI_OP_NULL;
};

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return MPI_FLOAT;
    case DType::kFloat64:
      return MPI_DOUBLE;
    case DType::kInt32:
      return MPI_INT32_T;
    case DType::kInt64:
      return MPI_INT64_T;
    case DType::kBFloat16:
    case DType::kFloat16:
      break;
  }
  return MPI_UINT16_T;
}

/// The requests of one call; whoever completes the stream waits for them.
class Requests {
 public:
  Requests(const char* operation, int rank, std::string group)
      : operation_(operation), rank_(rank), group_(std::move(group)) {}

  /// Where the next MPI call puts its request; valid until `next` is called again.
  MPI_Request* next() { return &requests_.emplace_back(MPI_REQUEST_NULL); }
  void check(int status) const { check_mpi(status, operation_, rank_, group_); }
  void wait() {
    std::vector<MPI_Status> statuses(requests_.size());
    const int status =
        MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), statuses.data());
    if (status == MPI_ERR_IN_STATUS) {
      for (const MPI_Status& each : statuses) {
        if (each.MPI_ERROR != MPI_ERR_PENDING) {
          check(each.MPI_ERROR);
        }
      }
    }
    check(status);
  }

 private:
  const char* operation_;
  int rank_;
  std::string group_;
  std::vector<MPI_Request> requests_;
};

class MpiCommunicator final : public Communicator {
 public:
  /// Takes `comm` as its own.
  MpiCommunicator(MPI_Comm comm, std::string name, Device& device,
                  std::shared_ptr<const Bf16Operations> bf16, std::int64_t max_piece_bytes)
      : comm_(comm),
        name_(std::move(name)),
        device_(device),
        bf16_(std::move(bf16)),
        max_piece_bytes_(max_piece_bytes) {
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~MpiCommunicator() override {
    if (std::uncaught_exceptions() == 0 && mpi_is_running()) MPI_Comm_free(&comm_);
  }
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  const std::string& name() const override { return name_; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string carrier() const override { return "MPI"; }
  int free_processors() const override { return 0; }

  std::unique_ptr<Communicator> split(std::string name, int color, int key,
                                      const MessageRoute& route) override {
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(comm_, color, key, &part), "split", rank_, name_);
    auto group =
        std::make_unique<MpiCommunicator>(part, std::move(name), device_, bf16_, max_piece_bytes_);
    if (group->size() > 1) return group;
    return make_one_rank_communicator(device_)->split(group->name(), 0, 0, route);
  }

  void all_reduce(Tensor inout, ReduceOp op, Stream& stream) override {
    check_reducible("all_reduce", name_, inout);
    start("all_reduce", stream, [&](Requests& requests) {
      pieces(inout.num_elements(), inout.dtype(), [&](std::int64_t begin, int count) {
        requests.check(MPI_Iallreduce(MPI_IN_PLACE, at(inout, begin), count,
                                      mpi_type(inout.dtype()), mpi_op(op, inout.dtype()), comm_,
                                      requests.next()));
      });
    });
  }

  void all_gather(Tensor shard, Tensor whole, Stream& stream) override {
    check_parts("all_gather", name_, size_, shard, whole);
    start("all_gather", stream, [&](Requests& requests) {
      const auto bytes = static_cast<std::int64_t>(shard.bytes());
      const std::int64_t own = rank_ * shard.num_elements();
      const bool in_place = shard.raw() == at(whole, own);
      if (bytes * size_ <= max_piece_bytes_) {
        const int count = static_cast<int>(bytes);
        requests.check(MPI_Iallgather(in_place ? MPI_IN_PLACE : shard.raw(), count, MPI_BYTE,
                                      whole.raw(), count, MPI_BYTE, comm_, requests.next()));
        return;
      }
      if (!in_place) std::memcpy(at(whole, own), shard.raw(), shard.bytes());
      for (int root = 0; root < size_; ++root) {
        broadcast_pieces(whole, root * shard.num_elements(), shard.num_elements(), root, requests);
      }
    });
  }

  void reduce_scatter(Tensor whole, Tensor shard, ReduceOp op, Stream& stream) override {
    check_reducible("reduce_scatter", name_, whole);
    check_parts("reduce_scatter", name_, size_, shard, whole);
    // One reduction to each owner, all in flight at once, instead of MPI_Ireduce_scatter_block:
    // this reads nothing but its own part into the result, so in place needs no scratch memory,
    // and no count grows with the number of ranks.
    start("reduce_scatter", stream, [&](Requests& requests) {
      for (int root = 0; root < size_; ++root) {
        pieces(shard.num_elements(), shard.dtype(), [&](std::int64_t begin, int count) {
          void* const from = at(whole, root * shard.num_elements() + begin);
          void* const to = root == rank_ ? at(shard, begin) : nullptr;
          requests.check(MPI_Ireduce(from == to ? MPI_IN_PLACE : from, to, count,
                                     mpi_type(shard.dtype()), mpi_op(op, shard.dtype()), root,
                                     comm_, requests.next()));
        });
      }
    });
  }

  void all_to_all(Tensor sent, Tensor received, Stream& stream) override {
    check_all_to_all(name_, size_, sent, received);
    const std::int64_t part = sent.num_elements() / size_;
    start("all_to_all", stream, [&](Requests& requests) {
      for (int peer = 0; peer < size_; ++peer) {
        receive_pieces(received.view(peer * part, {part}), peer, requests);
      }
      for (int peer = 0; peer < size_; ++peer) {
        send_pieces(sent.view(peer * part, {part}), peer, requests);
      }
    });
  }

  void broadcast(Tensor inout, int root, Stream& stream) override {
    check_rank("broadcast", name_, size_, root);
    start("broadcast", stream, [&](Requests& requests) {
      broadcast_pieces(inout, 0, inout.num_elements(), root, requests);
    });
  }

  void exchange(std::span<const Transfer> transfers, Stream& stream) override {
    check_exchange(name_, size_, transfers);
    start("exchange", stream, [&](Requests& requests) {
      // Receives first: a message that finds its buffer waiting is written there at once.
      for (const Transfer& transfer : transfers) {
        if (transfer.received) receive_pieces(transfer.received, transfer.from, requests);
      }
      for (const Transfer& transfer : transfers) {
        if (transfer.sent) send_pieces(transfer.sent, transfer.to, requests);
      }
    });
  }

  void check() override {}
  void abort() noexcept override { abort_world(static_cast<int>(ExitCode::kDevice)); }

 private:
  static void* at(const Tensor& tensor, std::int64_t element) {
    return static_cast<std::byte*>(tensor.raw()) +
           element * static_cast<std::int64_t>(size_of(tensor.dtype()));
  }

  MPI_Op mpi_op(ReduceOp op, DType dtype) const {
    const bool is_bf16 = dtype == DType::kBFloat16;
    switch (op) {
      case ReduceOp::kSum:
        return is_bf16 ? bf16_->sum : MPI_SUM;
      case ReduceOp::kMax:
        return is_bf16 ? bf16_->max : MPI_MAX;
      case ReduceOp::kMin:
        break;
    }
    return is_bf16 ? bf16_->min : MPI_MIN;
  }

  /// Starts an operation behind what is pending on `stream`, and leaves its second half there.
  template <typename Begin>
  void start(const char* operation, Stream& stream, Begin&& begin) {
    CpuStream& cpu_stream = CpuStream::of(stream);
    cpu_stream.complete();
    auto requests = std::make_shared<Requests>(operation, rank_, name_);
    begin(*requests);
    cpu_stream.defer([requests] { requests->wait(); });
  }

  /// Calls piece(first element, count) with counts that one MPI call can carry.
  template <typename Piece>
  void pieces(std::int64_t num_elements, DType dtype, Piece&& piece) const {
    const std::int64_t limit =
        std::max<std::int64_t>(1, max_piece_bytes_ / static_cast<std::int64_t>(size_of(dtype)));
    for_each_piece(num_elements, limit, [&](std::int64_t begin, std::int64_t count) {
      piece(begin, static_cast<int>(count));
    });
  }

  void broadcast_pieces(const Tensor& tensor, std::int64_t first, std::int64_t num_elements,
                        int root, Requests& requests) {
    pieces(num_elements, tensor.dtype(), [&](std::int64_t begin, int count) {
      requests.check(MPI_Ibcast(at(tensor, first + begin), bytes_of(tensor, count), MPI_BYTE, root,
                                comm_, requests.next()));
    });
  }

  void send_pieces(const Tensor& tensor, int to, Requests& requests) {
    pieces(tensor.num_elements(), tensor.dtype(), [&](std::int64_t begin, int count) {
      requests.check(MPI_Isend(at(tensor, begin), bytes_of(tensor, count), MPI_BYTE, to,
                               kTransferTag, comm_, requests.next()));
    });
  }

  void receive_pieces(const Tensor& tensor, int from, Requests& requests) {
    pieces(tensor.num_elements(), tensor.dtype(), [&](std::int64_t begin, int count) {
      requests.check(MPI_Irecv(at(tensor, begin), bytes_of(tensor, count), MPI_BYTE, from,
                               kTransferTag, comm_, requests.next()));
    });
  }

  static int bytes_of(const Tensor& tensor, int count) {
    return count * static_cast<int>(size_of(tensor.dtype()));
  }

  MPI_Comm comm_;
  std::string name_;
  Device& device_;
  std::shared_ptr<const Bf16Operations> bf16_;
  std::int64_t max_piece_bytes_;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(World& world, Device& device,
                                                    std::int64_t max_piece_bytes) {
  MPI_Comm copy = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(dynamic_cast<MpiWorld&>(world).comm(), &copy), "MPI_Comm_dup",
            world.rank(), "world");
  return std::make_unique<MpiCommunicator>(
      copy, "world", device, std::make_shared<const Bf16Operations>(), max_piece_bytes);
}

}  // namespace ringtrain
