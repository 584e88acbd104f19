#include "ringtrain/checkpoint/agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <vector>

#include "ringtrain/checkpoint/file.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

// Every file of the directory is durable already; now their names become so, innermost first.
void sync_tree(const fs::path& directory) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory, error)) {
    if (entry.is_directory(error)) sync_directory(entry.path());
  }
  sync_directory(directory);
}

void create_empty_directory(const fs::path& directory) {
  std::error_code error;
  fs::remove_all(directory, error);  // of a save that was interrupted
  if (!error) fs::create_directories(directory, error);
  if (error) {
    throw IoError(
        fmt::format("cannot create directory {}: {}", directory.string(), error.message()));
  }
}

}  // namespace

void agree(World& world, const std::function<void()>& work) {
  std::string failure;
  try {
    work();
  } catch (const IoError& error) {
    failure = error.what();
  }
  if (!world.any(!failure.empty())) return;
  // Ranks often fail for the same reason: each message once, with the first rank it came from.
  const std::vector<std::string> messages = world.all_gather(failure);
  if (std::equal(messages.begin() + 1, messages.end(), messages.begin())) throw IoError(failure);
  std::string all;
  for (std::size_t rank = 0; rank < messages.size(); ++rank) {
    const std::string& message = messages[rank];
    if (message.empty() || all.find(message) != std::string::npos) continue;
    all += fmt::format("{}rank {}: {}", all.empty() ? "" : "\n", rank, message);
  }
  throw IoError(all);
}

void write_directory(World& world, const fs::path& path,
                     const std::function<void(const fs::path&)>& write) {
  const bool leads = world.rank() == 0;
  fs::path temporary = path;
  temporary += ".tmp";
  try {
    agree(world, [&] {
      if (leads) create_empty_directory(temporary);
    });
    agree(world, [&] {
      std::error_code ignored;
      if (!fs::is_directory(temporary, ignored)) {
        throw IoError(
            fmt::format("{} on host {} does not see {}, which rank 0 has created: the "
                        "directory must be on a file system that all hosts share",
                        path.string(), world.host_name(), temporary.string()));
      }
    });
    agree(world, [&] { write(temporary); });
    agree(world, [&] {
      if (!leads) return;
      sync_tree(temporary);
      replace_directory(temporary, path);
    });
  } catch (const IoError&) {
    std::error_code ignored;
    if (leads) fs::remove_all(temporary, ignored);
    throw;
  }
}

}  // namespace ringtrain
