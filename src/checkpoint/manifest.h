#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "ringtrain/parallel/parameter_table.h"

namespace ringtrain {

/// manifest.json of a train state as values; see checkpoint/train_state.h.
struct Manifest {
  struct File {
    std::uint64_t bytes;
    std::uint32_t crc32;
  };
  /// Elements [begin, begin + count) of the tp slice `part`.
  struct Slice {
    std::string file;
    std::string key;
    TpSlice part;
    std::int64_t begin;
    std::int64_t count;
  };
  struct SavedTensor {
    Shape shape;
    TpSplit split;
    std::vector<Slice> slices;
  };

  std::map<std::string, File> files;
  std::map<std::string, std::map<std::string, SavedTensor>> families;  ///< family, tensor

  /// Adds what another rank has written.
  void merge(const Manifest& other);

  std::string to_text() const;
  /// Errors: IoError naming `path`, where the text came from.
  static Manifest parse(const std::string& text, const std::string& path);
  /// Reads `directory`/manifest.json. Errors: IoError.
  static Manifest read(const std::filesystem::path& directory);
};

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kMetadataName = "metadata.json";

}  // namespace ringtrain
