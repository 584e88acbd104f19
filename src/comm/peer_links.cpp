#include "peer_links.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstring>
#include <exception>
#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// What `attempt` complains of; empty if nothing.
template <typename Attempt>
std::string complaint(Attempt&& attempt) {
  try {
    attempt();
    return {};
  } catch (const DeviceError& error) {
    cudaGetLastError();  // told here; later calls must not see it
    return error.what();
  }
}

}  // namespace

PeerLinks::PeerLinks(int rank, int size, std::shared_ptr<World> plane, Device& device)
    : rank_(rank),
      plane_(std::move(plane)),
      device_(device),
      world_ranks_(static_cast<std::size_t>(size)) {}

PeerLinks::~PeerLinks() {
  // Peers may not answer when an error is on its way.
  if (!is_linked_ || std::uncaught_exceptions() > 0) return;
  try {
    words_.close();
    release();
  } catch (const Error&) {  // the job is about to end, and MPI with it
  }
}

void PeerLinks::release() {
  messages_.close();
  plane_->barrier();  // others have closed what this rank may now free
}

std::optional<std::string> PeerLinks::connect(int color) {
  const auto size = static_cast<int>(world_ranks_.size());
  std::string hindrance = complaint([&] { signals_.emplace(device_, exporter_, rank_, size); });
  Introduction own{color, rank_, {}};
  if (signals_) own.words = signals_->words();
  const auto introductions =
      plane_->all_gather(std::string(reinterpret_cast<const char*>(&own), sizeof own));
  const auto hosts = plane_->all_gather(plane_->host_name());
  if (!plane_->any(!hindrance.empty())) {
    hindrance = complaint([&] { meet(color, introductions, hosts); });
  }
  const auto hindrances = plane_->all_gather(hindrance);
  for (std::size_t r = 0; r < hindrances.size(); ++r) {
    if (hindrances[r].empty()) continue;
    words_.close();
    plane_->barrier();  // others have closed those of this rank, which die with this
    return fmt::format("rank {}: {}", r, hindrances[r]);
  }
  is_linked_ = true;
  return {};
}

/// Maps the words of all others of this group.
void PeerLinks::meet(int color, const std::vector<std::string>& introductions,
                     const std::vector<std::string>& hosts) {
  for (std::size_t r = 0; r < introductions.size(); ++r) {
    Introduction other;
    std::memcpy(&other, introductions[r].data(), sizeof other);
    if (other.color != color) continue;
    world_ranks_[static_cast<std::size_t>(other.rank)] = static_cast<int>(r);
    if (other.rank == rank_) continue;
    if (hosts[r] != plane_->host_name()) {
      throw DeviceError(
          fmt::format("it is on host {}, rank {} on {}", plane_->host_name(), r, hosts[r]));
    }
    signals_->connect(other.rank, words_.map(other.words));
  }
}

}  // namespace ringtrain
