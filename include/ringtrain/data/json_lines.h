#pragma once

#include <cstdint>
#include <fstream>
#include <string>

namespace ringtrain {

/// One line of a file of examples, or the file's end.
struct JsonLine {
  bool end_of_file = false;  ///< no text: the next line is the file's first again
  std::int64_t begin = 0;    ///< its first byte in the file
  std::int64_t end = 0;      ///< the byte behind it and its newline: dataset_file_loc
  std::int64_t index = 0;    ///< lines before it, blank and broken ones too: dataset_example_index
  std::string text;          ///< without the newline
};

/// Reads a file of lines from front to back, again and again. Blank lines count in `index` and are
/// not returned.
class JsonLineReader {
 public:
  /// Errors: IoError naming the file and `option` if it is missing, empty or no regular file.
  JsonLineReader(std::string path, const std::string& option);

  /// Continues at byte `begin`, whose line counts as line `index`. Errors: IoError.
  void seek(std::int64_t begin, std::int64_t index);
  /// Errors: IoError if the file cannot be read further.
  JsonLine next();

  const std::string& path() const { return path_; }
  std::int64_t file_bytes() const { return file_bytes_; }
  /// Fingerprint of the file's first MiB and its last 64 KiB; leaves the reading position alone.
  std::string content_fingerprint() const;

 private:
  std::string path_;
  std::ifstream file_;
  std::int64_t file_bytes_ = 0;
  std::int64_t position_ = 0;
  std::int64_t index_ = 0;
};

}  // namespace ringtrain
