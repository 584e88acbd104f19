#pragma once

#include <mpi.h>

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "ringtrain/comm/world.h"

namespace ringtrain {

/// The control plane over one MPI communicator of its own. It waits by sleeping: a rank may wait
/// for minutes beside threads that compute.
class MpiWorld final : public World {
 public:
  enum class Role { kFirst, kDuplicate };  // the first finalises MPI

  /// Takes `comm`, over all ranks, as its own.
  MpiWorld(MPI_Comm comm, Role role);
  ~MpiWorld() override;
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  const std::string& host_name() const override { return host_name_; }

  void barrier() override;
  std::string broadcast(std::string bytes, int root) override;
  std::vector<std::string> all_gather(const std::string& bytes) override;
  void send(const std::string& bytes, int to) override;
  void finish_sends() override;
  std::string receive(int from) override;
  bool any(bool value) override;
  bool post(std::string bytes, int to) override;
  std::optional<Posted> poll() override;

  std::unique_ptr<World> duplicate() override;
  std::unique_ptr<Communicator> make_communicator(Device& device) override;
  [[noreturn]] void abort(int exit_code) noexcept override;

  MPI_Comm comm() const { return comm_; }

 private:
  struct Outgoing {
    MPI_Request request = MPI_REQUEST_NULL;
    std::string bytes;
  };
  struct Incoming {
    MPI_Request request = MPI_REQUEST_NULL;
    Posted message;
  };

  void check(int status, const char* operation) const;
  void wait(MPI_Request request, const char* operation) const;
  /// Lets go of the sends that MPI has finished with.
  void reap_buffered();
  /// The bytes of `root` in place, on every rank, for lengths that are known.
  void broadcast_known(std::string& bytes, int root);

  MPI_Comm comm_;
  Role role_;
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  std::string host_name_;
  // Lists and maps, because MPI writes to the requests and strings where they are.
  std::unordered_map<int, Outgoing> outgoing_;
  std::list<Incoming> incoming_;
  std::list<Outgoing> buffered_;
};

}  // namespace ringtrain
