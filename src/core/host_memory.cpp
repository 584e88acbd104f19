#include "ringtrain/core/host_memory.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>

namespace ringtrain {
namespace {

/// The number after `key` in a file of "key number ..." lines (/proc/meminfo, memory.stat).
std::optional<std::size_t> number_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, key.size(), key) == 0) {
      return static_cast<std::size_t>(std::strtoull(line.c_str() + key.size(), nullptr, 10));
    }
  }
  return std::nullopt;
}

/// The one number a file holds; nothing for "max" and for a file that is not there.
std::optional<std::size_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::size_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

struct ControlGroup {
  std::string limit, usage, statistics, reclaimable;
};

/// Where version 2 and version 1 keep the limit of this process's control group.
std::array<ControlGroup, 2> control_groups() {
  std::string own = "/sys/fs/cgroup";
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("0::/", 0) == 0 && std::ifstream(own + line.substr(3) + "/memory.max")) {
      own += line.substr(3);
      break;
    }
  }
  const std::string v1 = "/sys/fs/cgroup/memory";
  return {ControlGroup{own + "/memory.max", own + "/memory.current", own + "/memory.stat",
                       "inactive_file "},
          ControlGroup{v1 + "/memory.limit_in_bytes", v1 + "/memory.usage_in_bytes",
                       v1 + "/memory.stat", "total_inactive_file "}};
}

}  // namespace

Device::MemoryInfo host_memory() {
  constexpr std::size_t kKibibyte = 1024;
  Device::MemoryInfo info{number_of("/proc/meminfo", "MemAvailable:").value_or(0) * kKibibyte,
                          number_of("/proc/meminfo", "MemTotal:").value_or(0) * kKibibyte};
  for (const ControlGroup& group : control_groups()) {
    const auto limit = number_in(group.limit);
    if (!limit || *limit >= info.total_bytes) continue;  // version 1 writes a huge number
    const std::size_t usage = number_in(group.usage).value_or(0);
    // File cache counts as used and is given up under pressure.
    const std::size_t cache = number_of(group.statistics, group.reclaimable).value_or(0);
    const std::size_t kept = usage - std::min(usage, cache);
    info.total_bytes = *limit;
    info.free_bytes = std::min(info.free_bytes, *limit - std::min(*limit, kept));
  }
  return info;
}

}  // namespace ringtrain
