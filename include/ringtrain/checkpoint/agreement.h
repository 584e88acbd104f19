#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "ringtrain/comm/world.h"

namespace ringtrain {

/// Collective over `world`: runs `work` on every rank and throws an Error on all of them if it
/// threw one on any, of the kind and with the message of the lowest rank that failed, then those of
/// the others. `work` must not be in the middle of another collective operation when it throws.
void agree(World& world, const std::function<void()>& work);

/// Collective over `world`: what `answer` returns on rank 0, which alone calls it, on every rank;
/// or the Error that it throws.
std::string ask_first_rank(World& world, const std::function<std::string()>& answer);

/// Collective over `world`. Makes the directory `path` in one step: rank 0 creates `path`.tmp,
/// every rank calls `write` with that name and adds its files, then it is forced to the disk and
/// renamed, replacing a directory of the same name. If anything fails, what was at `path` is
/// untouched, the temporary directory is removed and all ranks throw the IoError. `write` throws on
/// all ranks or outside of collective operations (see `agree`).
void write_directory(World& world, const std::filesystem::path& path,
                     const std::function<void(const std::filesystem::path&)>& write);

}  // namespace ringtrain
