#include "manifest.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "ringtrain/checkpoint/file.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "ringtrain train state";
constexpr int kVersion = 1;

const char* name_of(TpSplit split) {
  switch (split) {
    case TpSplit::kReplicated:
      return "replicated";
    case TpSplit::kRows:
      return "rows";
    case TpSplit::kColumns:
      return "columns";
  }
  return "";
}

TpSplit split_from_name(const std::string& name) {
  for (const TpSplit split : {TpSplit::kReplicated, TpSplit::kRows, TpSplit::kColumns}) {
    if (name == name_of(split)) return split;
  }
  throw IoError(fmt::format("unknown split '{}'", name));
}

json to_json(const Manifest::SavedTensor& tensor) {
  json shape = json::array();
  for (int i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape[i]);
  json slices = json::array();
  for (const Manifest::Slice& slice : tensor.slices) {
    slices.push_back({{"file", slice.file},
                      {"key", slice.key},
                      {"part", json::array({slice.part.first, slice.part.count})},
                      {"elements", json::array({slice.begin, slice.count})}});
  }
  return {{"shape", shape}, {"split", name_of(tensor.split)}, {"slices", slices}};
}

Manifest::SavedTensor tensor_from_json(const json& value) {
  Manifest::SavedTensor tensor;
  for (const json& size : value.at("shape")) tensor.shape.append(size.get<std::int64_t>());
  tensor.split = split_from_name(value.at("split").get<std::string>());
  for (const json& slice : value.at("slices")) {
    tensor.slices.push_back({.file = slice.at("file").get<std::string>(),
                             .key = slice.at("key").get<std::string>(),
                             .part = {.first = slice.at("part").at(0).get<std::int64_t>(),
                                      .count = slice.at("part").at(1).get<std::int64_t>()},
                             .begin = slice.at("elements").at(0).get<std::int64_t>(),
                             .count = slice.at("elements").at(1).get<std::int64_t>()});
  }
  return tensor;
}

Manifest manifest_from_json(const json& value) {
  if (value.at("format") != kFormat || value.at("version") != kVersion) {
    throw IoError(fmt::format("it is '{}' version {}, expected '{}' version {}",
                              value.at("format").dump(), value.at("version").dump(), kFormat,
                              kVersion));
  }
  Manifest manifest;
  for (const auto& [name, file] : value.at("files").items()) {
    manifest.files[name] = {.bytes = file.at("bytes").get<std::uint64_t>(),
                            .crc32 = file.at("crc32").get<std::uint32_t>()};
  }
  for (const auto& [family, tensors] : value.at("families").items()) {
    auto& saved = manifest.families[family];
    for (const auto& [name, tensor] : tensors.items()) saved[name] = tensor_from_json(tensor);
  }
  return manifest;
}

}  // namespace

void Manifest::merge(const Manifest& other) {
  files.insert(other.files.begin(), other.files.end());
  for (const auto& [family, tensors] : other.families) {
    for (const auto& [name, tensor] : tensors) {
      const auto [saved, is_new] = families[family].insert({name, tensor});
      if (is_new) continue;
      saved->second.slices.insert(saved->second.slices.end(), tensor.slices.begin(),
                                  tensor.slices.end());
    }
  }
}

std::string Manifest::to_text() const {
  json value{{"format", kFormat},
             {"version", kVersion},
             {"files", json::object()},
             {"families", json::object()}};
  for (const auto& [name, file] : files) {
    value["files"][name] = {{"bytes", file.bytes}, {"crc32", file.crc32}};
  }
  for (const auto& [family, tensors] : families) {
    json& saved = value["families"][family] = json::object();
    for (const auto& [name, tensor] : tensors) saved[name] = to_json(tensor);
  }
  return value.dump(1) + "\n";
}

Manifest Manifest::parse(const std::string& text, const std::string& path) {
  try {
    return manifest_from_json(json::parse(text));
  } catch (const json::exception& error) {
    throw IoError(fmt::format("{} is damaged: {}", path, error.what()));
  } catch (const Error& error) {
    throw IoError(fmt::format("{} cannot be used: {}", path, error.what()));
  }
}

Manifest Manifest::read(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / kManifestName;
  return parse(read_text(path), path.string());
}

}  // namespace ringtrain
