#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "ringtrain/checkpoint/hf_checkpoint.h"
#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/checkpoint/shard_copy.h"
#include "ringtrain/core/error.h"
#include "ringtrain/parallel/tensor_ranges.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

/// A tensor and the file it is in.
struct Source {
  const SafetensorsReader* file;
  const SafetensorsReader::Entry* entry;
};

/// The tensors of all files of a directory.
class HfTensors {
 public:
  explicit HfTensors(const fs::path& directory);
  const std::map<std::string, Source>& sources() const { return sources_; }

 private:
  void open(const fs::path& path);
  void open_index(const fs::path& index);

  std::vector<std::unique_ptr<SafetensorsReader>> files_;
  std::map<std::string, Source> sources_;
};

HfTensors::HfTensors(const fs::path& directory) {
  std::error_code ignored;
  const fs::path index = directory / "model.safetensors.index.json";
  const fs::path single = directory / "model.safetensors";
  if (fs::exists(index, ignored)) {
    open_index(index);
  } else if (fs::exists(single, ignored)) {
    open(single);
  } else {
    throw IoError(fmt::format(
        "{} has neither model.safetensors nor model.safetensors.index.json; --load_checkpoint="
        "params::DIR takes a Hugging Face directory with safetensors files",
        directory.string()));
  }
}

void HfTensors::open(const fs::path& path) {
  const SafetensorsReader& file = *files_.emplace_back(std::make_unique<SafetensorsReader>(path));
  for (const SafetensorsReader::Entry& entry : file.entries()) {
    const auto [there, is_new] = sources_.insert({entry.name, {&file, &entry}});
    if (!is_new) {
      throw IoError(fmt::format("tensor '{}' is both in {} and in {}", entry.name,
                                there->second.file->path().string(), path.string()));
    }
  }
}

void HfTensors::open_index(const fs::path& index) {
  const auto parsed = nlohmann::json::parse(read_text(index), nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("weight_map") || !parsed["weight_map"].is_object()) {
    throw IoError(index.string() + " has no weight_map");
  }
  std::set<std::string> names;
  for (const auto& [tensor, file] : parsed["weight_map"].items()) {
    if (!file.is_string()) {
      throw IoError(fmt::format("{}: the file of '{}' is no string", index.string(), tensor));
    }
    names.insert(file.get<std::string>());
  }
  for (const std::string& name : names) open(index.parent_path() / name);
  for (const auto& [tensor, file] : parsed["weight_map"].items()) {
    const auto source = sources_.find(tensor);
    const auto name = file.get<std::string>();
    if (source == sources_.end() || source->second.file->path().filename() != name) {
      throw IoError(
          fmt::format("{} says that '{}' is in {}, where it is not", index.string(), tensor, name));
    }
  }
}

bool may_be_ignored(const std::string& name) {
  return name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq");
}

// "'a', 'b' and 17 more"
std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 8;
  const std::vector<std::string> some(
      names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kMost)));
  return fmt::format("'{}'{}", fmt::join(some, "', '"),
                     names.size() > kMost ? fmt::format(" and {} more", names.size() - kMost) : "");
}

void check_tensors(const fs::path& directory, const HfTensors& tensors,
                   const ParameterTable& table) {
  std::set<std::string> expected;
  std::vector<std::string> missing;
  std::vector<std::string> misshapen;
  for (const ParameterUnit& unit : table.units()) {
    for (const Segment& segment : unit.segments) {
      expected.insert(segment.name);
      const auto found = tensors.sources().find(segment.name);
      if (found == tensors.sources().end()) {
        missing.push_back(segment.name);
      } else if (found->second.entry->shape != segment.shape) {
        misshapen.push_back(fmt::format("{} {} where the model has {}", segment.name,
                                        found->second.entry->shape.to_string(),
                                        segment.shape.to_string()));
      }
    }
  }
  std::vector<std::string> extra;
  for (const auto& [name, source] : tensors.sources()) {
    if (!expected.contains(name) && !may_be_ignored(name)) extra.push_back(name);
  }
  if (missing.empty() && misshapen.empty() && extra.empty()) return;
  std::string message = fmt::format("{} does not fit the model", directory.string());
  if (!missing.empty()) message += fmt::format("; missing: {}", listed(missing));
  if (!extra.empty()) message += fmt::format("; not in the model: {}", listed(extra));
  if (!misshapen.empty()) message += fmt::format("; other shapes: {}", listed(misshapen));
  throw IoError(message +
                "; the model is described by --load_llama_config, --update_llama_config "
                "and llama.*");
}

}  // namespace

void load_hf_parameters(const fs::path& directory, const ParameterTable& table, Context& context,
                        const ShardFamily& masters) {
  const HfTensors tensors(directory);
  check_tensors(directory, tensors, table);
  ShardCopy copy(context.device, context.compute);
  for (std::size_t u = 0; u < table.units().size(); ++u) {
    copy.zero(masters, u);
    for (const SegmentRun& run :
         segment_runs(table, table.units()[u], context.mesh.param->rank())) {
      const Source& source = tensors.sources().at(run.segment->name);
      std::vector<float> values(static_cast<std::size_t>(run.count));
      for (const TensorRange& range : tensor_ranges(run, table.tp_rank(), table.tp_size())) {
        source.file->read_floats(*source.entry, range.whole_begin, range.count,
                                 values.data() + range.piece_begin);
      }
      copy.upload(masters, u, run.shard_begin, values);
    }
  }
}

}  // namespace ringtrain
