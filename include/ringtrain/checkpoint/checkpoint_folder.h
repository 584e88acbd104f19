#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ringtrain/comm/world.h"

/// The checkpoints of a run:
///
///   checkpoint/step-00000100/   one save: whatever the trainer writes into it; a Hugging Face
///                                directory, and below it the train state in train_state/
///   checkpoint/step-00000200/milestone   marks a save that is kept for good
///   checkpoint/latest           the name of the newest complete save
///
/// A save is complete when its directory has its name: until then it is step-00000100.tmp.
namespace ringtrain {

/// Inside a run's output directory.
inline constexpr const char* kCheckpointFolder = "checkpoint";
/// Inside a save.
inline constexpr const char* kTrainStateFolder = "train_state";

/// "step-00000100".
std::string checkpoint_name(std::int64_t step);

/// Collective over `world`: writes a save of `step` through `write` (see write_directory), points
/// `latest` at it and only then removes the rolling saves of earlier steps, but for the newest one
/// with a train state. `milestone` keeps it.
/// Errors: IoError on all ranks; the saves that were there still are, and `latest` names one.
void save_checkpoint(World& world, const std::filesystem::path& folder, std::int64_t step,
                     bool milestone,
                     const std::function<void(const std::filesystem::path&)>& write);

/// The complete saves in `folder`: the one `latest` names, then those of earlier steps, newest
/// first; all of them if `latest` names none. Empty if there is no such folder.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder);

/// The newest of the saves that find_train_state would try, which may be damaged; nullopt for none.
std::optional<std::filesystem::path> newest_save(const std::filesystem::path& path);

/// Collective over `world`: the directory of the newest intact train state at `path`, which is a
/// folder of checkpoints, a run's output directory above it, or one save (then only that one is
/// tried). Saves that are damaged are passed over, `warn` is called on rank 0 for each.
/// nullopt if `path` holds no save at all.
/// Errors: IoError on all ranks if there are saves, but none with an intact train state.
std::optional<std::filesystem::path> find_train_state(
    World& world, const std::filesystem::path& path,
    const std::function<void(const std::string&)>& warn);

}  // namespace ringtrain
