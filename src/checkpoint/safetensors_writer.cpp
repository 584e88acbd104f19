#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr std::int64_t kChunkElements = 1 << 18;  // converted at a time

const char* code_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "F32";
    case DType::kFloat64:
      return "F64";
    case DType::kBFloat16:
      return "BF16";
    case DType::kFloat16:
      return "F16";
    case DType::kInt32:
      return "I32";
    case DType::kInt64:
      return "I64";
  }
  return "";
}

std::uint64_t bytes_of(const SafetensorsWriter::Declaration& tensor) {
  return static_cast<std::uint64_t>(tensor.shape.num_elements()) * size_of(tensor.dtype);
}

std::string make_header(const std::vector<SafetensorsWriter::Declaration>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    auto shape = nlohmann::ordered_json::array();
    for (int i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape[i]);
    const std::uint64_t end = offset + bytes_of(tensor);
    header[tensor.name] = {
        {"dtype", code_of(tensor.dtype)}, {"shape", shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the tensors' bytes begin aligned
  const std::uint64_t length = text.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + text;
}

std::uint64_t data_bytes(const std::vector<SafetensorsWriter::Declaration>& tensors) {
  std::uint64_t bytes = 0;
  for (const auto& tensor : tensors) bytes += bytes_of(tensor);
  return bytes;
}

float load_float(const void* data, DType dtype, std::int64_t i) {
  return dtype == DType::kFloat32 ? static_cast<const float*>(data)[i]
                                  : static_cast<float>(static_cast<const bfloat16*>(data)[i]);
}

void store_float(float value, DType dtype, std::byte* out) {
  std::uint16_t half = 0;
  switch (dtype) {
    case DType::kFloat32:
      std::memcpy(out, &value, sizeof(value));
      return;
    case DType::kBFloat16:
      half = bfloat16(value).bits;
      break;
    default:
      half = half_from_float(value);
      break;
  }
  std::memcpy(out, &half, sizeof(half));
}

bool can_convert(DType from, DType to) {
  return (from == DType::kFloat32 || from == DType::kBFloat16) &&
         (to == DType::kFloat32 || to == DType::kBFloat16 || to == DType::kFloat16);
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<Declaration> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : tensors_(std::move(tensors)),
      header_(make_header(tensors_, metadata)),
      file_(path, header_.size() + data_bytes(tensors_)) {
  file_.append(header_.data(), header_.size());
}

void SafetensorsWriter::append(std::string_view name, DType dtype, const void* data,
                               std::int64_t count) {
  while (current_ < tensors_.size() && appended_ == tensors_[current_].shape.num_elements() &&
         tensors_[current_].name != name) {
    ++current_;
    appended_ = 0;
  }
  if (current_ == tensors_.size() || tensors_[current_].name != name ||
      appended_ + count > tensors_[current_].shape.num_elements()) {
    throw InvalidArgument(fmt::format(
        "{} elements for tensor '{}' come where {} are due", count, name,
        current_ == tensors_.size()
            ? "none"
            : fmt::format("{} of '{}'", tensors_[current_].shape.num_elements() - appended_,
                          tensors_[current_].name)));
  }
  const DType wanted = tensors_[current_].dtype;
  appended_ += count;
  if (dtype == wanted) {
    file_.append(data, static_cast<std::size_t>(count) * size_of(dtype));
    return;
  }
  if (!can_convert(dtype, wanted)) {
    throw InvalidArgument(fmt::format("tensor '{}' is saved as {}, which {} cannot become", name,
                                      name_of(wanted), name_of(dtype)));
  }
  const std::size_t width = size_of(wanted);
  std::vector<std::byte> chunk(static_cast<std::size_t>(std::min(count, kChunkElements)) * width);
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t n = std::min(count - done, kChunkElements);
    for (std::int64_t i = 0; i < n; ++i) {
      store_float(load_float(data, dtype, done + i), wanted,
                  chunk.data() + static_cast<std::size_t>(i) * width);
    }
    file_.append(chunk.data(), static_cast<std::size_t>(n) * width);
    done += n;
  }
}

void SafetensorsWriter::finish() {
  if (file_.size() != header_.size() + data_bytes(tensors_)) {
    throw InvalidArgument(fmt::format("{} bytes of tensors were appended, {} were declared",
                                      file_.size() - header_.size(), data_bytes(tensors_)));
  }
  file_.finish();
}

}  // namespace ringtrain
