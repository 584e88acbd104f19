#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "ringtrain/comm/world.h"

namespace ringtrain {

/// Collective over `world`: runs `work` on every rank and throws an IoError on all of them if it
/// threw one on any, with the messages of the ranks that failed. `work` must not be in the middle
/// of another collective operation when it throws.
void agree(World& world, const std::function<void()>& work);

/// Collective over `world`. Makes the directory `path` in one step: rank 0 creates `path`.tmp,
/// every rank calls `write` with that name and adds its files, then it is forced to the disk and
/// renamed, replacing a directory of the same name. If anything fails, what was at `path` is
/// untouched, the temporary directory is removed and all ranks throw the IoError. `write` throws on
/// all ranks or outside of collective operations (see `agree`).
void write_directory(World& world, const std::filesystem::path& path,
                     const std::function<void(const std::filesystem::path&)>& write);

}  // namespace ringtrain
