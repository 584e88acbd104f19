#include "ringtrain/checkpoint/checkpoint_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <system_error>

#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/checkpoint/file.h"
#include "ringtrain/checkpoint/train_state.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step-";
constexpr const char* kTemporary = ".tmp";
constexpr const char* kLatest = "latest";
constexpr const char* kMilestone = "milestone";

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// The step of a directory name such as step-00000100; nullopt for other names.
std::optional<std::int64_t> step_of(const std::string& name) {
  const std::string prefix = kPrefix;
  if (!name.starts_with(prefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [last, error] = std::from_chars(name.data() + prefix.size(), end, step);
  if (error != std::errc() || last != end) return std::nullopt;
  return step;
}

// Steps of all complete saves, descending.
std::vector<std::int64_t> steps_in(const fs::path& folder) {
  std::vector<std::int64_t> steps;
  std::error_code missing;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, missing)) {
    const auto step = step_of(entry.path().filename().string());
    if (step && entry.is_directory(missing)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

std::optional<std::int64_t> latest_step(const fs::path& folder) {
  if (!is_there(folder / kLatest)) return std::nullopt;
  std::string name = read_text(folder / kLatest);
  while (!name.empty() && name.back() == '\n') name.pop_back();
  return is_there(folder / name) ? step_of(name) : std::nullopt;
}

// What an interrupted save or removal has left behind.
void remove_leftovers(const fs::path& folder) {
  std::error_code ignored;
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const fs::path& path = entry.path();
    if (path.extension() == kTemporary && step_of(path.stem().string())) leftovers.push_back(path);
  }
  for (const fs::path& path : leftovers) fs::remove_all(path, ignored);
}

// The newest train state stays: a later save of parameters alone does not continue a run. A save
// on its way out loses its name first, so that half of one is never taken for a whole.
void remove_earlier_rolling(const fs::path& folder, std::int64_t newest) {
  bool has_state = false;  // some later save that stays has a train state
  for (const std::int64_t step : steps_in(folder)) {
    if (step > newest) continue;
    const fs::path save = folder / checkpoint_name(step);
    const bool is_newest_state = !has_state && is_there(save / kTrainStateFolder);
    has_state = has_state || is_newest_state;
    if (step == newest || is_newest_state || is_there(save / kMilestone)) continue;
    fs::path condemned = save;
    condemned += kTemporary;
    std::error_code ignored;
    fs::remove_all(condemned, ignored);
    fs::rename(save, condemned, ignored);
    fs::remove_all(condemned, ignored);
  }
}

// What find_train_state tries, in order.
std::vector<fs::path> candidates_at(const fs::path& path) {
  if (is_there(path / kTrainStateFolder)) return {path};
  const std::vector<fs::path> saves = list_checkpoints(path);
  return saves.empty() ? list_checkpoints(path / kCheckpointFolder) : saves;
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("{}{:08}", kPrefix, step);
}

void save_checkpoint(World& world, const fs::path& folder, std::int64_t step, bool milestone,
                     const std::function<void(const fs::path&)>& write) {
  const bool leads = world.rank() == 0;
  const fs::path save = folder / checkpoint_name(step);
  if (leads) remove_leftovers(folder);
  const bool is_milestone = milestone || is_there(save / kMilestone);
  write_directory(world, save, [&](const fs::path& temporary) {
    write(temporary);
    if (leads && is_milestone) OutputFile(temporary / kMilestone).finish();
  });
  agree(world, [&] {
    if (!leads) return;
    replace_text(folder / kLatest, checkpoint_name(step) + "\n");
    remove_earlier_rolling(folder, step);
  });
}

std::vector<fs::path> list_checkpoints(const fs::path& folder) {
  const std::optional<std::int64_t> latest = latest_step(folder);
  std::vector<fs::path> saves;
  for (const std::int64_t step : steps_in(folder)) {
    // Later steps than the newest save are of an earlier run in the same folder.
    if (latest && step > *latest) continue;
    saves.push_back(folder / checkpoint_name(step));
  }
  return saves;
}

std::optional<fs::path> newest_save(const fs::path& path) {
  const std::vector<fs::path> candidates = candidates_at(path);
  if (candidates.empty()) return std::nullopt;
  return candidates.front();
}

std::optional<fs::path> find_train_state(World& world, const fs::path& path,
                                         const std::function<void(const std::string&)>& warn) {
  // Rank 0 looks, so that all ranks see the same even while a network file system catches up.
  std::string candidates = ask_first_rank(world, [&] {
    std::string joined;
    for (const fs::path& save : candidates_at(path)) joined += save.string() + "\n";
    return joined;
  });
  if (candidates.empty()) return std::nullopt;
  std::string problems;
  while (!candidates.empty()) {
    const std::size_t end = candidates.find('\n');
    const fs::path state = fs::path(candidates.substr(0, end)) / kTrainStateFolder;
    candidates.erase(0, end + 1);
    try {
      verify_train_state(world, state);
      return state;
    } catch (const IoError& error) {
      problems += fmt::format("\n  {}", error.what());
      if (world.rank() == 0) {
        warn(fmt::format("the checkpoint {} cannot be used: {}", state.parent_path().string(),
                         error.what()));
      }
    }
  }
  throw IoError(
      fmt::format("{} has checkpoints, but none with an intact train state (which "
                  "--checkpointer.save_optimizer_state=True saves):{}",
                  path.string(), problems));
}

}  // namespace ringtrain
