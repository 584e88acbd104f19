#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>

#include "collective_check.h"
#include "mpi_support.h"
#include "ringtrain/comm/communicator.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// Checks what the others check and moves nothing, so a step on the meta device takes the same
/// path and meets the same errors.
class MetaCommunicator final : public Communicator {
 public:
  MetaCommunicator(std::string name, int rank, int size)
      : name_(std::move(name)), rank_(rank), size_(size) {}

  const std::string& name() const override { return name_; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int free_processors() const override { return 0; }
  std::unique_ptr<Communicator> split(std::string name, int, int, const MessageRoute&) override {
    throw InvalidArgument(
        fmt::format("the meta group {} has no other ranks to ask who joins {}; "
                    "use make_meta_communicator",
                    name_, name));
  }

  void all_reduce(Tensor inout, ReduceOp, Stream&) override {
    check_reducible("all_reduce", name_, inout);
  }
  void all_gather(Tensor shard, Tensor whole, Stream&) override {
    check_parts("all_gather", name_, size_, shard, whole);
  }
  void reduce_scatter(Tensor whole, Tensor shard, ReduceOp, Stream&) override {
    check_reducible("reduce_scatter", name_, whole);
    check_parts("reduce_scatter", name_, size_, shard, whole);
  }
  void all_to_all(Tensor sent, Tensor received, Stream&) override {
    check_all_to_all(name_, size_, sent, received);
  }
  void broadcast(Tensor, int root, Stream&) override {
    check_rank("broadcast", name_, size_, root);
  }
  void exchange(std::span<const Transfer> transfers, Stream&) override {
    check_exchange(name_, size_, transfers);
  }
  void check() override {}
  void abort() noexcept override { abort_world(static_cast<int>(ExitCode::kDevice)); }

 private:
  std::string name_;
  int rank_;
  int size_;
};

}  // namespace

std::unique_ptr<Communicator> make_meta_communicator(std::string name, int rank, int size) {
  check_rank("make_meta_communicator", name, size, rank);
  return std::make_unique<MetaCommunicator>(std::move(name), rank, size);
}

}  // namespace ringtrain
