#include "ringtrain/core/host_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

namespace ringtrain {

namespace fs = std::filesystem;

namespace {

/// The number after `key` in a file of "key number ..." lines (/proc/meminfo, memory.stat).
std::optional<std::size_t> number_of(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, key.size(), key) == 0) {
      return static_cast<std::size_t>(std::strtoull(line.c_str() + key.size(), nullptr, 10));
    }
  }
  return std::nullopt;
}

/// The one number a file holds; nothing for "max" and for a file that is not there.
std::optional<std::size_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  std::size_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

/// Names of the files in which a version of control groups keeps the memory of a group.
struct GroupFiles {
  fs::path mount;
  std::string limit, usage, reclaimable;
};
const GroupFiles kVersion1{"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                           "total_inactive_file "};
const GroupFiles kVersion2{"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "};

/// Lowers `info` to what one group leaves.
void apply_limit(const fs::path& group, const GroupFiles& files, Device::MemoryInfo& info) {
  const auto limit = number_in(group / files.limit);
  if (!limit) return;
  const std::size_t usage = number_in(group / files.usage).value_or(0);
  // File cache counts as used and is given up under pressure.
  const std::size_t cache = number_of(group / "memory.stat", files.reclaimable).value_or(0);
  const std::size_t kept = usage - std::min(usage, cache);
  info.total_bytes = std::min(info.total_bytes, *limit);
  info.free_bytes = std::min(info.free_bytes, *limit - std::min(*limit, kept));
}

/// A line of /proc/self/cgroup: "number:controllers:/path", without controllers in version 2.
struct Membership {
  GroupFiles files;
  fs::path group;  // below the mount
};
std::optional<Membership> memory_membership(const std::string& line) {
  const std::size_t controllers = line.find(':') + 1;
  const std::size_t path = line.find(":/", controllers);
  if (controllers == 0 || path == line.npos) return std::nullopt;
  const fs::path group = line.substr(path + 2);
  if (path == controllers) return Membership{kVersion2, group};
  const std::string names = fmt::format(",{},", line.substr(controllers, path - controllers));
  if (names.find(",memory,") == names.npos) return std::nullopt;
  return Membership{kVersion1, group};
}

}  // namespace

Device::MemoryInfo host_memory(const fs::path& root) {
  constexpr std::size_t kKibibyte = 1024;
  const fs::path machine = root / "proc/meminfo";
  Device::MemoryInfo info{number_of(machine, "MemAvailable:").value_or(0) * kKibibyte,
                          number_of(machine, "MemTotal:").value_or(0) * kKibibyte};
  std::ifstream memberships(root / "proc/self/cgroup");
  for (std::string line; std::getline(memberships, line);) {
    const auto membership = memory_membership(line);
    if (!membership) continue;
    // A container may see its own group as the mount, and the path from outside: folders that are
    // not there limit nothing.
    const fs::path mount = root / membership->files.mount;
    fs::path group = mount;
    apply_limit(group, membership->files, info);
    for (const fs::path& name : membership->group) {
      group /= name;
      apply_limit(group, membership->files, info);
    }
  }
  return info;
}

}  // namespace ringtrain
