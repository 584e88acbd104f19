#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/checkpoint/hf_checkpoint.h"
#include "ringtrain/checkpoint/hf_config.h"
#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/core/error.h"
#include "tensor_gather.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

/// A tensor of the model in the order of the files.
struct Item {
  std::size_t unit;
  const Segment* segment;
};

struct OutputPlan {
  std::string name;
  std::vector<Item> items;
};

std::int64_t bytes_of(const Segment& segment, DType dtype) {
  return segment.shape.num_elements() * static_cast<std::int64_t>(size_of(dtype));
}

// Tensors in table order, a new file before the one that would exceed the limit.
std::vector<OutputPlan> plan_files(const ParameterTable& table, const HfExport& options) {
  std::vector<OutputPlan> files;
  std::int64_t bytes = 0;
  for (std::size_t unit = 0; unit < table.units().size(); ++unit) {
    for (const Segment& segment : table.units()[unit].segments) {
      const std::int64_t size = bytes_of(segment, options.dtype);
      if (files.empty() || bytes + size > options.max_file_bytes) {
        files.emplace_back();
        bytes = 0;
      }
      files.back().items.push_back({unit, &segment});
      bytes += size;
    }
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    files[i].name = files.size() == 1
                        ? "model.safetensors"
                        : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size());
  }
  return files;
}

std::string index_text(const std::vector<OutputPlan>& files, DType dtype) {
  nlohmann::ordered_json weight_map = nlohmann::ordered_json::object();
  std::int64_t total = 0;
  for (const OutputPlan& file : files) {
    for (const Item& item : file.items) {
      weight_map[item.segment->name] = file.name;
      total += bytes_of(*item.segment, dtype);
    }
  }
  return nlohmann::ordered_json{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}}
             .dump(2) +
         "\n";
}

void write_file(const fs::path& path, const std::string& text) {
  OutputFile file(path, text.size());
  file.append(text.data(), text.size());
  file.finish();
}

/// Rank 0's side: writes until something fails, then remembers why while the others go on sending.
class Writer {
 public:
  Writer(const fs::path& directory, const HfExport& options)
      : directory_(directory), options_(options) {}

  void begin(const OutputPlan& file) {
    attempt([&] {
      std::vector<SafetensorsWriter::Declaration> tensors;
      for (const Item& item : file.items) {
        tensors.push_back({item.segment->name, options_.dtype, item.segment->shape});
      }
      file_.emplace(directory_ / file.name, std::move(tensors),
                    std::map<std::string, std::string>{{"format", "pt"}});
    });
  }
  void append(const Segment& segment, const std::vector<float>& values) {
    attempt([&] {
      file_->append(segment.name, DType::kFloat32, values.data(), segment.shape.num_elements());
    });
  }
  void end() {
    attempt([&] { file_->finish(); });
    file_.reset();
  }
  void write_rest(const ModelConfig& config, const std::vector<OutputPlan>& files) {
    attempt([&] {
      if (files.size() > 1) {
        write_file(directory_ / "model.safetensors.index.json", index_text(files, options_.dtype));
      }
      write_file(directory_ / "config.json", hf_config_text(config, options_.dtype));
      write_file(directory_ / "generation_config.json", hf_generation_config_text(config));
      if (!options_.tokenizer_file.empty()) {
        write_file(directory_ / "tokenizer.model", read_text(options_.tokenizer_file));
      }
    });
  }
  void throw_if_failed() const {
    if (failure_) throw *failure_;
  }

 private:
  template <typename Body>
  void attempt(Body body) {
    if (failure_) return;
    try {
      body();
    } catch (const IoError& error) {
      failure_ = error;
    }
  }

  const fs::path& directory_;
  const HfExport& options_;
  std::optional<SafetensorsWriter> file_;
  std::optional<IoError> failure_;
};

}  // namespace

void write_hf_checkpoint(World& world, const fs::path& directory, const ModelConfig& config,
                         const ParameterTable& table, Context& context, const ShardFamily& masters,
                         const HfExport& options) {
  const bool leads = world.rank() == 0;
  const std::vector<OutputPlan> files = plan_files(table, options);
  TensorGather gather(world, table, context);
  Writer writer(directory, options);
  for (const OutputPlan& file : files) {
    if (leads) writer.begin(file);
    for (const Item& item : file.items) {
      const std::vector<float> values = gather.gather(masters, item.unit, *item.segment);
      if (leads) writer.append(*item.segment, values);
    }
    if (leads) writer.end();
  }
  if (leads) writer.write_rest(config, files);
  agree(world, [&] { writer.throw_if_failed(); });
}

}  // namespace ringtrain
