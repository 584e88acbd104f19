#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <set>

#include "manifest.h"
#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/checkpoint/shard_copy.h"
#include "ringtrain/checkpoint/train_state.h"
#include "ringtrain/core/error.h"
#include "ringtrain/parallel/tensor_ranges.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

using SavedTensors = std::map<std::string, Manifest::SavedTensor>;

void verify_file(const fs::path& path, const Manifest::File& expected) {
  const InputFile file(path);
  if (file.size() != expected.bytes) {
    throw IoError(fmt::format("{} is damaged: it has {} bytes, {} were written", path.string(),
                              file.size(), expected.bytes));
  }
  std::vector<char> chunk(std::size_t{1} << 22);
  std::uint32_t crc = 0;
  for (std::uint64_t at = 0; at < file.size();) {
    const auto n =
        static_cast<std::size_t>(std::min<std::uint64_t>(chunk.size(), file.size() - at));
    file.read(chunk.data(), n, at);
    crc = crc32(crc, chunk.data(), n);
    at += n;
  }
  if (crc != expected.crc32) {
    throw IoError(fmt::format("{} is damaged: its CRC-32 is {:08x}, {:08x} was written",
                              path.string(), crc, expected.crc32));
  }
}

/// The files of a state, opened when first needed.
class StateFiles {
 public:
  explicit StateFiles(fs::path directory) : directory_(std::move(directory)) {}
  const SafetensorsReader& operator[](const std::string& name) {
    auto& file = files_[name];
    if (!file) file = std::make_unique<SafetensorsReader>(directory_ / name);
    return *file;
  }

 private:
  fs::path directory_;
  std::map<std::string, std::unique_ptr<SafetensorsReader>> files_;
};

void check_tensors(const fs::path& directory, const std::string& family, const SavedTensors& saved,
                   const ParameterTable& table) {
  std::set<std::string> known;
  for (const ParameterUnit& unit : table.units()) {
    for (const Segment& segment : unit.segments) {
      known.insert(segment.name);
      const auto tensor = saved.find(segment.name);
      if (tensor == saved.end()) {
        throw IoError(fmt::format("the train state {} has no '{}' of tensor '{}'",
                                  directory.string(), family, segment.name));
      }
      if (tensor->second.shape != segment.shape) {
        throw IoError(fmt::format("the train state {} has tensor '{}' {} where the model has {}",
                                  directory.string(), segment.name,
                                  tensor->second.shape.to_string(), segment.shape.to_string()));
      }
    }
  }
  for (const auto& [name, tensor] : saved) {
    if (known.contains(name)) continue;
    throw IoError(fmt::format("the train state {} has tensor '{}', which is not in the model",
                              directory.string(), name));
  }
}

std::vector<float> read_run(const fs::path& directory, StateFiles& files,
                            const Manifest::SavedTensor& tensor, const SegmentRun& run,
                            const ParameterTable& table) {
  std::vector<float> values(static_cast<std::size_t>(run.count));
  const auto wanted = tensor_ranges(run, table.tp_rank(), table.tp_size());
  std::int64_t num_read = 0;
  for (const Manifest::Slice& slice : tensor.slices) {
    const auto there =
        tensor_ranges(tensor.shape, tensor.split, slice.part, slice.begin, slice.count);
    for (const RangeCopy& copy : overlap(there, wanted)) {
      const SafetensorsReader& file = files[slice.file];
      file.read_floats(file.entry(slice.key), copy.from, copy.count, values.data() + copy.to);
      num_read += copy.count;
    }
  }
  if (num_read != run.count) {
    throw IoError(fmt::format("the manifest of {} has {} of the {} elements of '{}' wanted",
                              directory.string(), num_read, run.count, run.segment->name));
  }
  return values;
}

}  // namespace

void verify_train_state(World& world, const fs::path& directory) {
  agree(world, [&] {
    const Manifest manifest = Manifest::read(directory);
    int turn = 0;
    for (const auto& [name, file] : manifest.files) {
      if (turn++ % world.size() == world.rank()) verify_file(directory / name, file);
    }
  });
}

std::string read_train_state_metadata(const fs::path& directory) {
  return read_text(directory / kMetadataName);
}

void load_train_state(const fs::path& directory, const ParameterTable& table, Context& context,
                      const std::vector<ShardFamily>& families) {
  const Manifest manifest = Manifest::read(directory);
  StateFiles files(directory);
  ShardCopy copy(context.device, context.compute);
  for (const ShardFamily& family : families) {
    const auto saved = manifest.families.find(family.name);
    if (saved == manifest.families.end()) {
      throw IoError(
          fmt::format("the train state {} has no '{}'; --load_checkpoint="
                      "trainstate_params:: loads the parameters alone",
                      directory.string(), family.name));
    }
    check_tensors(directory, family.name, saved->second, table);
    for (std::size_t u = 0; u < table.units().size(); ++u) {
      copy.zero(family, u);
      for (const SegmentRun& run :
           segment_runs(table, table.units()[u], context.mesh.param->rank())) {
        const Manifest::SavedTensor& tensor = saved->second.at(run.segment->name);
        copy.upload(family, u, run.shard_begin, read_run(directory, files, tensor, run, table));
      }
    }
  }
}

}  // namespace ringtrain
