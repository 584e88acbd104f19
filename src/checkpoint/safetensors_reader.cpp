#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using nlohmann::json;
using Entry = SafetensorsReader::Entry;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::int64_t kChunkElements = 1 << 18;        // converted at a time

std::optional<DType> dtype_of_code(const std::string& code) {
  if (code == "F32") return DType::kFloat32;
  if (code == "F64") return DType::kFloat64;
  if (code == "BF16") return DType::kBFloat16;
  if (code == "F16") return DType::kFloat16;
  if (code == "I32") return DType::kInt32;
  if (code == "I64") return DType::kInt64;
  return std::nullopt;
}

json read_header(const InputFile& file, std::uint64_t& data_begin) {
  const std::string path = file.path().string();
  std::uint64_t length = 0;
  if (file.size() < sizeof(length)) {
    throw IoError(
        fmt::format("{} is no safetensors file: it has {} bytes, the header alone is "
                    "longer; is the file truncated?",
                    path, file.size()));
  }
  file.read(&length, sizeof(length), 0);
  if (length > kMaxHeaderBytes || length > file.size() - sizeof(length)) {
    throw IoError(
        fmt::format("{} is no whole safetensors file: its header says {} bytes, the file "
                    "has {}; is the file truncated?",
                    path, length, file.size()));
  }
  std::string text(length, '\0');
  file.read(text.data(), text.size(), sizeof(length));
  data_begin = sizeof(length) + length;
  json header = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) {
    throw IoError(fmt::format("{}: the safetensors header is not a JSON object", path));
  }
  return header;
}

// One row of the header, checked against the `data_bytes` bytes that follow it.
Entry parse_entry(const std::string& path, const std::string& name, const json& row,
                  std::uint64_t data_bytes, std::uint64_t& end) {
  const auto refuse = [&](const std::string& cause) -> IoError {
    return IoError(fmt::format("{}: tensor '{}' {}", path, name, cause));
  };
  if (!row.is_object() || !row.contains("dtype") || !row["dtype"].is_string() ||
      !row.contains("shape") || !row["shape"].is_array() || !row.contains("data_offsets") ||
      !row["data_offsets"].is_array() || row["data_offsets"].size() != 2) {
    throw refuse("needs dtype, shape and two data_offsets in the header");
  }
  const auto code = row["dtype"].get<std::string>();
  const std::optional<DType> dtype = dtype_of_code(code);
  if (!dtype) {
    throw refuse(
        fmt::format("has the unknown dtype '{}'; one of F32, F64, BF16, F16, I32, I64", code));
  }
  if (row["shape"].size() > static_cast<std::size_t>(Shape::kMaxRank)) {
    throw refuse(
        fmt::format("has {} dimensions, the most is {}", row["shape"].size(), Shape::kMaxRank));
  }
  Shape shape;
  std::uint64_t bytes = size_of(*dtype);
  for (const json& size : row["shape"]) {
    if (!size.is_number_unsigned()) throw refuse("has a shape that is not of whole numbers");
    const auto value = size.get<std::uint64_t>();
    // Beyond the file's length the exact product is of no interest, only that it cannot overflow.
    if (value != 0 && bytes > std::numeric_limits<std::int64_t>::max() / value) {
      throw refuse("has a shape larger than any file");
    }
    bytes *= value;
    shape.append(static_cast<std::int64_t>(value));
  }
  const json& offsets = row["data_offsets"];
  if (!offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
    throw refuse("has data_offsets that are not whole numbers");
  }
  const auto begin = offsets[0].get<std::uint64_t>();
  end = offsets[1].get<std::uint64_t>();
  if (begin > end || end > data_bytes) {
    throw refuse(
        fmt::format("has bytes [{}, {}) of {}; is the file truncated?", begin, end, data_bytes));
  }
  if (end - begin != bytes) {
    throw refuse(fmt::format("has shape {} of {}, {} bytes, but data_offsets of {} bytes",
                             shape.to_string(), code, bytes, end - begin));
  }
  return {.name = name, .dtype = *dtype, .shape = shape, .begin = begin};
}

template <typename T, typename Out, typename Convert>
void read_converted(const InputFile& file, std::uint64_t offset, std::int64_t count, Out* out,
                    Convert convert) {
  std::vector<T> chunk(static_cast<std::size_t>(std::min(count, kChunkElements)));
  for (std::int64_t done = 0; done < count;) {
    const auto n = static_cast<std::size_t>(std::min(count - done, kChunkElements));
    file.read(chunk.data(), n * sizeof(T), offset + static_cast<std::uint64_t>(done) * sizeof(T));
    std::transform(chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(n), out + done,
                   convert);
    done += static_cast<std::int64_t>(n);
  }
}

}  // namespace

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path) : file_(path) {
  std::uint64_t data_begin = 0;
  const json header = read_header(file_, data_begin);
  const std::uint64_t data_bytes = file_.size() - data_begin;
  for (const auto& [name, row] : header.items()) {
    if (name == "__metadata__") {
      for (const auto& [key, value] : row.items()) {
        if (value.is_string()) metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    std::uint64_t end = 0;
    entries_.push_back(parse_entry(path.string(), name, row, data_bytes, end));
  }
  std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.shape.num_elements()) < std::pair(b.begin, b.shape.num_elements());
  });
  // The format allows neither overlaps nor gaps: each tensor begins where the one before ends.
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (entry.begin != expected) {
      throw IoError(
          fmt::format("{}: tensor '{}' begins at byte {}, but the one before ends at {}: "
                      "the offsets {}",
                      path.string(), entry.name, entry.begin, expected,
                      entry.begin < expected ? "overlap" : "leave a gap"));
    }
    const auto elements = static_cast<std::uint64_t>(entry.shape.num_elements());
    expected += elements * size_of(entry.dtype);
    entry.begin += data_begin;
    by_name_[entry.name] = i;
  }
  if (expected != data_bytes) {
    throw IoError(fmt::format("{}: the tensors have {} bytes, the file has {} after its header",
                              path.string(), expected, data_bytes));
  }
}

const Entry* SafetensorsReader::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

const Entry& SafetensorsReader::entry(std::string_view name) const {
  const Entry* found = find(name);
  if (found == nullptr) {
    throw IoError(fmt::format("{} has no tensor '{}'", path().string(), name));
  }
  return *found;
}

void SafetensorsReader::check_range(const Entry& entry, std::int64_t first,
                                    std::int64_t count) const {
  if (first < 0 || count < 0 || first > entry.shape.num_elements() - count) {
    throw IoError(fmt::format("{}: elements [{}, {}) of tensor '{}' {}", path().string(), first,
                              first + count, entry.name, entry.shape.to_string()));
  }
}

void SafetensorsReader::read_floats(const Entry& entry, std::int64_t first, std::int64_t count,
                                    float* out) const {
  check_range(entry, first, count);
  const std::uint64_t offset =
      entry.begin + static_cast<std::uint64_t>(first) * size_of(entry.dtype);
  switch (entry.dtype) {
    case DType::kFloat32:
      file_.read(out, static_cast<std::size_t>(count) * sizeof(float), offset);
      return;
    case DType::kFloat64:
      return read_converted<double>(file_, offset, count, out,
                                    [](double value) { return static_cast<float>(value); });
    case DType::kBFloat16:
      return read_converted<bfloat16>(file_, offset, count, out,
                                      [](bfloat16 value) { return static_cast<float>(value); });
    case DType::kFloat16:
      return read_converted<std::uint16_t>(file_, offset, count, out, float_from_half);
    case DType::kInt32:
    case DType::kInt64:
      break;
  }
  throw IoError(fmt::format("{}: tensor '{}' holds {}, floating point was expected",
                            path().string(), entry.name, name_of(entry.dtype)));
}

void SafetensorsReader::read_ints(const Entry& entry, std::int64_t first, std::int64_t count,
                                  std::int64_t* out) const {
  check_range(entry, first, count);
  const std::uint64_t offset =
      entry.begin + static_cast<std::uint64_t>(first) * size_of(entry.dtype);
  if (entry.dtype == DType::kInt32) {
    return read_converted<std::int32_t>(file_, offset, count, out,
                                        [](std::int32_t value) { return std::int64_t{value}; });
  }
  if (entry.dtype != DType::kInt64) {
    throw IoError(fmt::format("{}: tensor '{}' holds {}, integers were expected", path().string(),
                              entry.name, name_of(entry.dtype)));
  }
  file_.read(out, static_cast<std::size_t>(count) * sizeof(std::int64_t), offset);
}

std::vector<float> SafetensorsReader::floats(std::string_view name) const {
  const Entry& found = entry(name);
  std::vector<float> values(static_cast<std::size_t>(found.shape.num_elements()));
  read_floats(found, 0, found.shape.num_elements(), values.data());
  return values;
}

std::vector<std::int64_t> SafetensorsReader::ints(std::string_view name) const {
  const Entry& found = entry(name);
  std::vector<std::int64_t> values(static_cast<std::size_t>(found.shape.num_elements()));
  read_ints(found, 0, found.shape.num_elements(), values.data());
  return values;
}

}  // namespace ringtrain
