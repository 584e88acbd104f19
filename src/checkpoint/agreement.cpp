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
  std::string failure;  // exit code as one character, then the message; empty: none
  try {
    work();
  } catch (const Error& error) {
    failure = fmt::format("{}{}", static_cast<char>(error.exit_code()), error.what());
  }
  if (!world.any(!failure.empty())) return;
  const std::vector<std::string> failures = world.all_gather(failure);
  const auto first = std::find_if(failures.begin(), failures.end(),
                                  [](const std::string& each) { return !each.empty(); });
  // Ranks often fail for the same reason: each message once, with the first rank it came from. Rank
  // 0 does what only one rank has to do, so its message needs no rank.
  std::string all;
  for (auto each = first; each != failures.end(); ++each) {
    const std::string message = each->substr(std::min<std::size_t>(1, each->size()));
    if (message.empty() || all.find(message) != std::string::npos) continue;
    const auto rank = each - failures.begin();
    all +=
        rank == 0 ? message : fmt::format("{}rank {}: {}", all.empty() ? "" : "\n", rank, message);
  }
  throw_error(static_cast<ExitCode>(first->front()), all);
}

std::string ask_first_rank(World& world, const std::function<std::string()>& answer) {
  std::string text;
  agree(world, [&] {
    if (world.rank() == 0) text = answer();
  });
  return world.broadcast(std::move(text));
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
  } catch (const Error&) {
    std::error_code ignored;
    if (leads) fs::remove_all(temporary, ignored);
    throw;
  }
}

}  // namespace ringtrain
