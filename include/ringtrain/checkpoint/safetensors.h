#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ringtrain/checkpoint/file.h"
#include "ringtrain/core/dtype.h"
#include "ringtrain/core/tensor.h"

/// safetensors files: eight bytes of header length, a JSON header, then the tensors' bytes
/// (https://github.com/huggingface/safetensors, "Format").
namespace ringtrain {

/// A file opened for reading; its header is read and checked at once, its tensors when asked for.
///
/// Errors: IoError naming the file, and the tensor where there is one: header longer than the
/// file, broken JSON, unknown element type, offsets that overlap, leave a gap, leave the file or
/// do not fit the shape.
class SafetensorsReader {
 public:
  struct Entry {
    std::string name;
    DType dtype;
    Shape shape;
    std::uint64_t begin;  ///< of its bytes in the file
  };

  explicit SafetensorsReader(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  /// In the order of their bytes in the file.
  const std::vector<Entry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// nullptr if there is no tensor of that name.
  const Entry* find(std::string_view name) const;
  /// Errors: IoError if there is no tensor of that name.
  const Entry& entry(std::string_view name) const;

  /// Elements [first, first + count) of the flattened tensor, converted to float from fp32, bf16,
  /// fp16 or fp64. Errors: IoError for integer tensors and for ranges outside the tensor.
  void read_floats(const Entry& entry, std::int64_t first, std::int64_t count, float* out) const;
  /// The same for int32 and int64 tensors.
  void read_ints(const Entry& entry, std::int64_t first, std::int64_t count,
                 std::int64_t* out) const;
  /// Whole tensors.
  std::vector<float> floats(std::string_view name) const;
  std::vector<std::int64_t> ints(std::string_view name) const;

 private:
  void check_range(const Entry& entry, std::int64_t first, std::int64_t count) const;

  InputFile file_;
  std::vector<Entry> entries_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::map<std::string, std::string> metadata_;
};

/// Writes a file from front to back: all tensors are declared first, then their elements are
/// appended in that order, so that no tensor needs to be in memory as a whole.
/// Errors: IoError naming the path (OutputFile); InvalidArgument if the elements appended are not
/// those declared.
class SafetensorsWriter {
 public:
  struct Declaration {
    std::string name;
    DType dtype;
    Shape shape;
  };

  SafetensorsWriter(const std::filesystem::path& path, std::vector<Declaration> tensors,
                    const std::map<std::string, std::string>& metadata = {});

  /// Appends `count` elements of type `dtype` to tensor `name`, which must be the first one that
  /// is not complete. Equal types are copied; fp32 and bf16 are converted to fp32, bf16 or fp16.
  void append(std::string_view name, DType dtype, const void* data, std::int64_t count);
  /// Forces the file to the disk. Errors: InvalidArgument if elements are missing.
  void finish();

  std::uint64_t size() const { return file_.size(); }
  std::uint32_t crc32() const { return file_.crc32(); }

 private:
  std::vector<Declaration> tensors_;
  std::string header_;  ///< before file_: its length is part of the expected size
  OutputFile file_;
  std::size_t current_ = 0;
  std::int64_t appended_ = 0;  ///< elements of tensors_[current_]
};

}  // namespace ringtrain
