#include "ringtrain/comm/job.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "mpi_support.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using Clock = std::chrono::steady_clock;
/// How long a rank that failed waits for the others to fail too.
constexpr std::chrono::seconds kGrace(3);
/// How much longer it waits for a lower rank to print and end the job, before it does so itself.
constexpr std::chrono::seconds kPatience(5);

struct Failure {
  int exit_code;
  std::string text;
  bool operator==(const Failure&) const = default;
};
using Failures = std::map<int, Failure>;  // by rank

Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {static_cast<int>(ExitCode::kDevice), "out of host memory"};
  } catch (const std::exception& error) {
    return {static_cast<int>(ExitCode::kDevice), fmt::format("unexpected error: {}", error.what())};
  }
}

std::string packed(const Failure& failure) {
  std::string bytes(sizeof failure.exit_code, '\0');
  std::memcpy(bytes.data(), &failure.exit_code, sizeof failure.exit_code);
  return bytes + failure.text;
}

Failure unpacked(const std::string& bytes) {
  Failure failure{};
  std::memcpy(&failure.exit_code, bytes.data(), sizeof failure.exit_code);
  failure.text = bytes.substr(sizeof failure.exit_code);
  return failure;
}

/// Collects what others say until all have failed or `deadline` is over.
void collect(World& plane, Failures& failures, Clock::time_point deadline) {
  while (static_cast<int>(failures.size()) < plane.size() && Clock::now() < deadline) {
    if (const auto posted = plane.poll()) {
      failures[posted->from] = unpacked(posted->bytes);
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
}

void print(const std::string& line) {
  fmt::print(stderr, "ringtrain: {}\n", line);
  std::fflush(stderr);
}

/// Every distinct failure with the ranks that met it.
void print_by_rank(const Failures& failures) {
  std::vector<Failure> distinct;
  for (const auto& [rank, failure] : failures) {
    if (std::find(distinct.begin(), distinct.end(), failure) == distinct.end()) {
      distinct.push_back(failure);
    }
  }
  for (const Failure& failure : distinct) {
    std::vector<int> ranks;
    for (const auto& [rank, other] : failures) {
      if (other == failure) ranks.push_back(rank);
    }
    print(fmt::format("[rank{} {}] {}", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "),
                      failure.text));
  }
}

/// Returns if all ranks failed alike, else ends the job.
int settle(World& plane, const Failure& own) {
  const int rank = plane.rank();
  for (int to = 0; to < plane.size(); ++to) {
    if (to != rank) plane.post(packed(own), to);
  }
  Failures failures{{rank, own}};
  const auto start = Clock::now();
  collect(plane, failures, start + kGrace);
  const bool all_alike =
      static_cast<int>(failures.size()) == plane.size() &&
      std::all_of(failures.begin(), failures.end(), [&](const auto& f) { return f.second == own; });
  if (all_alike) {
    if (rank == 0) print(own.text);
    return own.exit_code;
  }
  const auto& [lowest, its_failure] = *failures.begin();
  if (rank != lowest) std::this_thread::sleep_for(kPatience);
  print_by_rank(failures);
  abort_world(its_failure.exit_code);
}

}  // namespace

int run_job(World& world, const std::function<int()>& body) {
  const std::unique_ptr<World> plane = world.size() > 1 ? world.duplicate() : nullptr;
  Failure failure{};
  try {
    return body();
  } catch (...) {
    failure = current_failure();
  }
  if (plane) return settle(*plane, failure);
  print(failure.text);
  return failure.exit_code;
}

}  // namespace ringtrain
