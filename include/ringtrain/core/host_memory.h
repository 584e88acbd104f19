#pragma once

#include <filesystem>

#include "ringtrain/core/device.h"

namespace ringtrain {

/// Memory of this host that this process may still take, and all of it: within the limits of its
/// control group (v1 or v2) and of all groups around it, where they are lower than what the machine
/// has. Reads proc and sys/fs/cgroup below `root`.
Device::MemoryInfo host_memory(const std::filesystem::path& root = "/");

}  // namespace ringtrain
