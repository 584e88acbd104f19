#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ringtrain/comm/world.h"
#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/parameter_table.h"

/// The train state: every family of sharded values (masters, moments, ...) with all its bits, and a
/// JSON text of the trainer (step, data position, configuration). A directory of
///
///   tp-0-shard-3.safetensors   what tp rank 0, parameter shard 3 holds, key "family/tensor"; only
///                              the first replica writes, of replicated tensors only tp rank 0
///   metadata.json              the trainer's text
///   manifest.json              size and CRC-32 of each file; for each family and tensor the whole
///                              shape and its slices: file, key, part of the tp axis, elements
///
/// The manifest describes whole tensors, so any mesh loads what another has saved. It is written
/// last: a directory with a manifest is complete.
namespace ringtrain {

/// Collective over `world`: writes into the existing `directory` (see write_directory).
/// Errors: IoError on all ranks, naming the path.
void write_train_state(World& world, const std::filesystem::path& directory,
                       const ParameterTable& table, Context& context,
                       const std::vector<ShardFamily>& families, const std::string& metadata);

/// Collective over `world`: compares size and checksum of every file with the manifest, each file
/// on one rank. Errors: IoError on all ranks naming the damaged files.
void verify_train_state(World& world, const std::filesystem::path& directory);

/// The text given to write_train_state. Not collective. Errors: IoError.
std::string read_train_state_metadata(const std::filesystem::path& directory);

/// Fills this rank's shards of `families`, found by name, from a state saved by any mesh, reading
/// only the elements it holds; padding becomes zero. Not collective.
/// Errors: IoError naming the family and tensors that are not in the state, not in the model, of
/// another shape, or incomplete.
void load_train_state(const std::filesystem::path& directory, const ParameterTable& table,
                      Context& context, const std::vector<ShardFamily>& families);

}  // namespace ringtrain
