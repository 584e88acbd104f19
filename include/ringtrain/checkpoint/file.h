#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace ringtrain {

/// A file opened for reading at any offset. Errors: IoError naming the path and the cause.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return size_; }
  /// Reads exactly `bytes` at `offset`. Errors: IoError if the file ends before.
  void read(void* out, std::size_t bytes, std::uint64_t offset) const;

 private:
  std::filesystem::path path_;
  int descriptor_;
  std::uint64_t size_;
};

/// A new file written from front to back, with the CRC-32 of what was written. Nothing counts as
/// saved before finish() returns.
/// Errors: IoError naming the path, the bytes and the cause (disk full, size limit, ...).
class OutputFile {
 public:
  /// Creates or empties `path` and reserves `expected_bytes` where the file system can, so that a
  /// full disk shows before the first byte is written.
  explicit OutputFile(const std::filesystem::path& path, std::uint64_t expected_bytes = 0);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void append(const void* data, std::size_t bytes);
  /// Forces the bytes to the disk and closes the file.
  void finish();

  std::uint64_t size() const { return size_; }
  std::uint32_t crc32() const { return crc32_; }

 private:
  [[noreturn]] void fail(std::string_view operation, std::uint64_t bytes, int error) const;

  std::filesystem::path path_;
  int descriptor_;
  std::uint64_t size_ = 0;
  std::uint32_t crc32_ = 0;
};

/// CRC-32 as in zlib and PNG (polynomial 0xEDB88320) of `bytes` more bytes after those that gave
/// `crc`; start with 0.
std::uint32_t crc32(std::uint32_t crc, const void* data, std::size_t bytes);

/// The whole of a small file. Errors: IoError.
std::string read_text(const std::filesystem::path& path);
/// Writes `text` beside `path`, forces it to the disk and renames it, so that `path` always holds
/// all of the old or all of the new text. Errors: IoError.
void replace_text(const std::filesystem::path& path, std::string_view text);
/// Makes the names in a directory durable, after files were created or renamed there.
void sync_directory(const std::filesystem::path& directory);
/// Moves the directory `from` to `to`, replacing a directory of that name in one step where the
/// file system can exchange names. Errors: IoError.
void replace_directory(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace ringtrain
