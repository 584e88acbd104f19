#include "ringtrain/data/json_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "ringtrain/core/error.h"
#include "ringtrain/data/fingerprint.h"

namespace ringtrain {
namespace {

std::string read_range(std::ifstream& file, std::int64_t begin, std::int64_t count) {
  std::string bytes(static_cast<std::size_t>(count), '\0');
  file.seekg(begin);
  file.read(bytes.data(), count);
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  return bytes;
}

}  // namespace

JsonLineReader::JsonLineReader(std::string path, const std::string& option)
    : path_(std::move(path)) {
  if (path_.empty()) {
    throw InvalidArgument(fmt::format("no data: give {}=PATH, a file of JSON lines", option));
  }
  std::error_code error;
  const auto status = std::filesystem::status(path_, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    throw IoError(fmt::format("{}: is not a regular file ({})", path_, option));
  }
  file_.open(path_, std::ios::binary);
  if (!file_) {
    throw IoError(
        fmt::format("{}: cannot be opened: {} ({})", path_, std::strerror(errno), option));
  }
  file_bytes_ = static_cast<std::int64_t>(std::filesystem::file_size(path_, error));
  if (error) throw IoError(fmt::format("{}: {} ({})", path_, error.message(), option));
  if (file_bytes_ == 0) throw IoError(fmt::format("{}: is empty ({})", path_, option));
}

void JsonLineReader::seek(std::int64_t begin, std::int64_t index) {
  file_.clear();
  if (!file_.seekg(begin)) {
    throw IoError(fmt::format("{}: cannot be read from byte {}", path_, begin));
  }
  position_ = begin;
  index_ = index;
}

JsonLine JsonLineReader::next() {
  JsonLine line;
  while (std::getline(file_, line.text)) {
    line.begin = position_;
    // getline takes the newline away; the last line may have none, and then sets eof.
    position_ += static_cast<std::int64_t>(line.text.size()) + (file_.eof() ? 0 : 1);
    line.end = position_;
    line.index = index_++;
    if (line.text.find_first_not_of(" \t\r") != std::string::npos) return line;
  }
  if (file_.bad()) {
    throw IoError(fmt::format("{}: cannot be read after byte {}", path_, position_));
  }
  line.end_of_file = true;
  line.begin = line.end = position_;
  line.index = index_;
  line.text.clear();
  seek(0, 0);
  return line;
}

std::string JsonLineReader::content_fingerprint() const {
  constexpr std::int64_t kHeadBytes = 1 << 20;
  constexpr std::int64_t kTailBytes = 1 << 16;
  std::ifstream file(path_, std::ios::binary);
  const std::int64_t tail_begin = std::max<std::int64_t>(0, file_bytes_ - kTailBytes);
  return fingerprint(read_range(file, 0, std::min(kHeadBytes, file_bytes_)) +
                     read_range(file, tail_begin, std::min(kTailBytes, file_bytes_)));
}

}  // namespace ringtrain
