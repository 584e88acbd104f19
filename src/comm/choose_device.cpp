#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ringtrain/comm/world.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// Lets NCCL take ranks of one GPU for hosts of their own, which it connects through sockets; it
/// refuses two ranks on one device of one host. What the user has set stays.
void prepare_shared_gpus(World& world, bool one_host) {
  const auto set = [](const char* variable, const std::string& value) {
    setenv(variable, value.c_str(), /*overwrite=*/0);
  };
  set("NCCL_HOSTID", fmt::format("{}-rank-{}", world.host_name(), world.rank()));
  set("NCCL_IB_DISABLE", "1");
  if (one_host) set("NCCL_SOCKET_IFNAME", "lo");
}

/// The first pair of ranks with equal entries; {-1, -1} if there is none.
std::pair<int, int> first_equal(const std::vector<std::string>& entries) {
  std::map<std::string, int> first;
  for (int rank = 0; rank < static_cast<int>(entries.size()); ++rank) {
    const auto [entry, is_new] = first.emplace(entries[static_cast<std::size_t>(rank)], rank);
    if (!is_new) return {entry->second, rank};
  }
  return {-1, -1};
}

/// Ranks of one host share its cores, unless OMP_NUM_THREADS or the launcher's binding to cores
/// has decided that already: waiting threads of another rank cost as much as working ones.
std::unique_ptr<Device> make_shared_cpu_device(const World& world) {
  const bool is_bound = omp_get_num_procs() < static_cast<int>(std::thread::hardware_concurrency());
  if (std::getenv("OMP_NUM_THREADS") == nullptr && !is_bound) {
    omp_set_num_threads(std::max(1, omp_get_num_procs() / world.local_size()));
  }
  return make_cpu_device();
}

}  // namespace

std::unique_ptr<Device> choose_device(World& world, const std::string& device,
                                      bool oversubscribe_gpu) {
  if (device == "cpu") return make_shared_cpu_device(world);  // no call reaches the driver
  if (device != "auto" && device != "cuda") {
    throw InvalidArgument(
        fmt::format("--device={} is unknown; expected auto, cuda or cpu", device));
  }
  const int visible = cuda_device_count();
  const bool some_lack = world.any(visible == 0);
  if (device == "auto" && some_lack) return make_shared_cpu_device(world);
  if (some_lack) {
    // Every rank says the same, so that it is printed once.
    const auto counts = world.all_gather(std::to_string(visible));
    int lacking = 0;
    while (counts[static_cast<std::size_t>(lacking)] != "0") ++lacking;
    throw DeviceError(
        fmt::format("--device=cuda, but rank {} sees no GPU; check the driver, "
                    "CUDA_VISIBLE_DEVICES and that this is a CUDA build, or use --device=cpu",
                    lacking));
  }
  auto gpu = make_cuda_device(world.local_rank() % visible);
  const auto uuids = world.all_gather(gpu->uuid());
  const auto [first, second] = first_equal(uuids);
  if (second < 0) return gpu;
  if (!oversubscribe_gpu) {
    throw InvalidArgument(
        fmt::format("ranks {} and {} share {}; start at most one rank for each GPU of a host, or "
                    "share GPUs with --oversubscribe_gpu=true (slow)",
                    first, second, uuids[static_cast<std::size_t>(first)]));
  }
  prepare_shared_gpus(world, world.local_size() == world.size());
  return gpu;
}

}  // namespace ringtrain
