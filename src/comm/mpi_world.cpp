#include "mpi_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <iterator>
#include <numeric>
#include <thread>
#include <utility>

#include "mpi_support.h"
#include "nccl_communicator.h"
#include "ringtrain/comm/mpi_communicator.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr int kMessageTag = 1;
constexpr int kPostTag = 2;

MPI_Comm duplicate_of(MPI_Comm comm, int rank) {
  MPI_Comm copy = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(comm, &copy), "MPI_Comm_dup", rank, "world");
  return copy;
}

}  // namespace

MpiWorld::MpiWorld(MPI_Comm comm, Role role) : comm_(comm), role_(role) {
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
  MPI_Comm host = MPI_COMM_NULL;
  check(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host),
        "MPI_Comm_split_type");
  MPI_Comm_rank(host, &local_rank_);
  MPI_Comm_size(host, &local_size_);
  MPI_Comm_free(&host);
  std::array<char, MPI_MAX_PROCESSOR_NAME> name{};
  int length = 0;
  check(MPI_Get_processor_name(name.data(), &length), "MPI_Get_processor_name");
  host_name_.assign(name.data(), static_cast<std::size_t>(length));
}

MpiWorld::~MpiWorld() {
  if (std::uncaught_exceptions() > 0 || !mpi_is_running()) {  // peers may not answer
    // MPI uses the messages under way until the process ends; moving a container leaves its
    // elements where they are.
    new auto(std::move(outgoing_));
    new auto(std::move(incoming_));
    new auto(std::move(buffered_));
    return;
  }
  const auto leave = [](Outgoing& message) {
    int done = 1;
    MPI_Test(&message.request, &done, MPI_STATUS_IGNORE);
    if (done == 0) MPI_Request_free(&message.request);
    return done == 0;
  };
  for (auto& [to, message] : outgoing_) {
    // MPI may read it until the process ends.
    if (leave(message)) new std::string(std::move(message.bytes));
  }
  bool is_needed = false;
  for (Outgoing& message : buffered_) is_needed |= leave(message);
  if (is_needed) new auto(std::move(buffered_));
  for (Incoming& message : incoming_) {
    MPI_Cancel(&message.request);
    MPI_Request_free(&message.request);
    new std::string(std::move(message.message.bytes));
  }
  MPI_Comm_free(&comm_);
  if (role_ == Role::kFirst) MPI_Finalize();
}

void MpiWorld::check(int status, const char* operation) const {
  check_mpi(status, operation, rank_, "world");
}

void MpiWorld::wait(MPI_Request request, const char* operation) const {
  using std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kEager(2);
  constexpr std::chrono::microseconds kNap(100);
  const auto start = steady_clock::now();
  for (int done = 0;;) {
    check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), operation);
    if (done != 0) return;
    if (steady_clock::now() - start < kEager) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
}

void MpiWorld::barrier() {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Ibarrier(comm_, &request), "barrier");
  wait(request, "barrier");
}

void MpiWorld::broadcast_known(std::string& bytes, int root) {
  for_each_piece(static_cast<std::int64_t>(bytes.size()), kMaxPieceBytes,
                 [&](std::int64_t begin, std::int64_t count) {
                   MPI_Request request = MPI_REQUEST_NULL;
                   check(MPI_Ibcast(bytes.data() + begin, static_cast<int>(count), MPI_BYTE, root,
                                    comm_, &request),
                         "broadcast");
                   wait(request, "broadcast");
                 });
}

std::string MpiWorld::broadcast(std::string bytes, int root) {
  if (root < 0 || root >= size_) {
    throw InvalidArgument(fmt::format("broadcast: root {} is not a rank of {}", root, size_));
  }
  std::int64_t length = static_cast<std::int64_t>(bytes.size());
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Ibcast(&length, 1, MPI_INT64_T, root, comm_, &request), "broadcast");
  wait(request, "broadcast");
  bytes.resize(static_cast<std::size_t>(length));
  broadcast_known(bytes, root);
  return bytes;
}

std::vector<std::string> MpiWorld::all_gather(const std::string& bytes) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(size_));
  const std::int64_t own = static_cast<std::int64_t>(bytes.size());
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallgather(&own, 1, MPI_INT64_T, lengths.data(), 1, MPI_INT64_T, comm_, &request),
        "all_gather");
  wait(request, "all_gather");

  std::vector<std::string> gathered(lengths.size());
  const std::int64_t total = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  if (total > kMaxPieceBytes) {  // too long for one call: one broadcast a rank
    for (int root = 0; root < size_; ++root) {
      const auto at = static_cast<std::size_t>(root);
      gathered[at] = root == rank_ ? bytes : std::string(static_cast<std::size_t>(lengths[at]), 0);
      broadcast_known(gathered[at], root);
    }
    return gathered;
  }
  std::vector<int> counts(lengths.begin(), lengths.end());
  std::vector<int> offsets(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), offsets.begin(), 0);
  std::string joined(static_cast<std::size_t>(total), '\0');
  check(MPI_Iallgatherv(bytes.data(), static_cast<int>(own), MPI_BYTE, joined.data(), counts.data(),
                        offsets.data(), MPI_BYTE, comm_, &request),
        "all_gather");
  wait(request, "all_gather");
  for (std::size_t i = 0; i < gathered.size(); ++i) {
    gathered[i] =
        joined.substr(static_cast<std::size_t>(offsets[i]), static_cast<std::size_t>(counts[i]));
  }
  return gathered;
}

void MpiWorld::reap_buffered() {
  for (auto message = buffered_.begin(); message != buffered_.end();) {
    int done = 0;
    check(MPI_Test(&message->request, &done, MPI_STATUS_IGNORE), "send");
    message = done == 0 ? std::next(message) : buffered_.erase(message);
  }
}

void MpiWorld::finish_sends() {
  for (; !buffered_.empty(); buffered_.pop_front()) wait(buffered_.front().request, "send");
}

// Ranks may send to each other before either receives. The length is short enough for MPI to
// buffer it; beyond some KiB it does not.
void MpiWorld::send(const std::string& bytes, int to) {
  const std::int64_t length = static_cast<std::int64_t>(bytes.size());
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Isend(&length, 1, MPI_INT64_T, to, kMessageTag, comm_, &request), "send");
  wait(request, "send");
  if (bytes.size() <= kBufferedBytes) {
    reap_buffered();
    if (bytes.empty()) return;
    Outgoing& message = buffered_.emplace_back();
    message.bytes = bytes;
    check(MPI_Isend(message.bytes.data(), static_cast<int>(length), MPI_BYTE, to, kMessageTag,
                    comm_, &message.request),
          "send");
    return;
  }
  for_each_piece(length, kMaxPieceBytes, [&](std::int64_t begin, std::int64_t count) {
    check(MPI_Isend(bytes.data() + begin, static_cast<int>(count), MPI_BYTE, to, kMessageTag, comm_,
                    &request),
          "send");
    wait(request, "send");
  });
}

std::string MpiWorld::receive(int from) {
  std::int64_t length = 0;
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Irecv(&length, 1, MPI_INT64_T, from, kMessageTag, comm_, &request), "receive");
  wait(request, "receive");
  std::string bytes(static_cast<std::size_t>(length), '\0');
  for_each_piece(length, kMaxPieceBytes, [&](std::int64_t begin, std::int64_t count) {
    check(MPI_Irecv(bytes.data() + begin, static_cast<int>(count), MPI_BYTE, from, kMessageTag,
                    comm_, &request),
          "receive");
    wait(request, "receive");
  });
  return bytes;
}

bool MpiWorld::any(bool value) {
  int flag = value ? 1 : 0;
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallreduce(MPI_IN_PLACE, &flag, 1, MPI_INT, MPI_MAX, comm_, &request), "any");
  wait(request, "any");
  return flag != 0;
}

bool MpiWorld::post(std::string bytes, int to) {
  if (static_cast<std::int64_t>(bytes.size()) > kMaxPieceBytes) {
    throw InvalidArgument(
        fmt::format("a posted message has at most {} bytes, got {}", kMaxPieceBytes, bytes.size()));
  }
  Outgoing& message = outgoing_[to];
  int done = 1;
  check(MPI_Test(&message.request, &done, MPI_STATUS_IGNORE), "post");
  if (done == 0) return false;
  message.bytes = std::move(bytes);
  check(MPI_Isend(message.bytes.data(), static_cast<int>(message.bytes.size()), MPI_BYTE, to,
                  kPostTag, comm_, &message.request),
        "post");
  return true;
}

std::optional<World::Posted> MpiWorld::poll() {
  int found = 0;
  MPI_Message matched = MPI_MESSAGE_NULL;
  MPI_Status status;
  check(MPI_Improbe(MPI_ANY_SOURCE, kPostTag, comm_, &found, &matched, &status), "poll");
  if (found != 0) {
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    Incoming& message = incoming_.emplace_back();
    message.message = {status.MPI_SOURCE, std::string(static_cast<std::size_t>(bytes), '\0')};
    check(MPI_Imrecv(message.message.bytes.data(), bytes, MPI_BYTE, &matched, &message.request),
          "poll");
  }
  // A sender that died in the middle of a long message leaves a request that never completes; the
  // messages of the others pass it.
  for (auto message = incoming_.begin(); message != incoming_.end(); ++message) {
    int done = 0;
    check(MPI_Test(&message->request, &done, MPI_STATUS_IGNORE), "poll");
    if (done == 0) continue;
    Posted posted = std::move(message->message);
    incoming_.erase(message);
    return posted;
  }
  return std::nullopt;
}

std::unique_ptr<World> MpiWorld::duplicate() {
  return std::make_unique<MpiWorld>(duplicate_of(comm_, rank_), Role::kDuplicate);
}

std::unique_ptr<Communicator> MpiWorld::make_communicator(Device& device) {
  if (device.type() == DeviceType::kMeta) return make_meta_communicator("world", rank_, size_);
  if (size_ == 1) return make_one_rank_communicator(device);
  if (device.type() == DeviceType::kCuda) return make_nccl_communicator(*this, device);
  return make_mpi_communicator(*this, device, kMaxPieceBytes);
}

void MpiWorld::abort(int exit_code) noexcept {
  abort_world(exit_code);
}

std::unique_ptr<World> initialise_world(int* argc, char*** argv) {
  // Under srun without PMI, Open MPI would end the process with a page of its own.
  if (!has_process_manager()) check_launch(1);
  int granted = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &granted) != MPI_SUCCESS) {
    throw DeviceError("MPI_Init_thread failed");
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  int rank = 0;
  int size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  try {
    check_launch(size);
  } catch (const InvalidArgument&) {
    MPI_Finalize();  // every rank of a wrong launch comes here
    throw;
  }
  if (granted < MPI_THREAD_MULTIPLE) {
    throw DeviceError(
        fmt::format("this MPI grants thread level {}, MPI_THREAD_MULTIPLE ({}) is needed; use an "
                    "MPI library built with thread support",
                    granted, static_cast<int>(MPI_THREAD_MULTIPLE)));
  }
  return std::make_unique<MpiWorld>(duplicate_of(MPI_COMM_WORLD, rank), MpiWorld::Role::kFirst);
}

}  // namespace ringtrain
