#include "mesh_agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr std::array<std::string_view, 4> kAxes{"dp", "fsdp", "tp", "sp"};

/// The sizes as texts in the order of kAxes; other texts are left to the mesh's own parser, as one
/// element.
std::vector<std::string> sizes_of(std::string text) {
  std::erase_if(text, [](char c) { return c == ' ' || c == '!'; });
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  if (parts.size() != kAxes.size()) return {text};
  std::vector<std::string> sizes(kAxes.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t colon = parts[i].find(':');
    if (colon == std::string::npos) {
      sizes[i] = parts[i];
      continue;
    }
    const auto axis = std::find(kAxes.begin(), kAxes.end(), parts[i].substr(0, colon));
    if (axis == kAxes.end()) return {text};
    sizes[static_cast<std::size_t>(axis - kAxes.begin())] = parts[i].substr(colon + 1);
  }
  return sizes;
}

}  // namespace

void agree_on_mesh(TrainConfig& config, ConfigReport& report) {
  const std::string& of_model = config.original.llama_mesh_dim;
  if (of_model.empty()) return;
  const auto source = report.sources.find("mesh_dim");
  if (source == report.sources.end()) {
    config.mesh_dim = of_model;
    report.sources["mesh_dim"] = report.sources["llama.mesh_dim"];
    return;
  }
  const std::vector<std::string> run = sizes_of(config.mesh_dim);
  const std::vector<std::string> model = sizes_of(of_model);
  if (run == model) return;
  std::vector<std::string> both = run;
  bool agree = run.size() == model.size();
  for (std::size_t i = 0; agree && i < run.size(); ++i) {
    if (run[i] == "-1") both[i] = model[i];
    agree = run[i] == model[i] || run[i] == "-1" || model[i] == "-1";
  }
  if (!agree) {
    throw InvalidArgument(
        fmt::format("mesh_dim is {} ({}) but the model's settings say mesh_dim={} ({}); give "
                    "the same mesh in both, or only --mesh_dim",
                    config.mesh_dim, source->second, of_model, report.sources["llama.mesh_dim"]));
  }
  config.mesh_dim = fmt::format("{}", fmt::join(both, ","));
}

}  // namespace ringtrain
