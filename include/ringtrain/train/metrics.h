#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace ringtrain {

/// One line of metrics.jsonl under construction: a flat JSON object, keys in the order of `add`.
/// Floating-point values are written with the fewest digits that read back to the same double;
/// infinities and NaN, for which JSON has no number, become null.
class MetricsRecord {
 public:
  /// Every record begins with its step: micro-batches before this one, so the first is 0.
  explicit MetricsRecord(std::int64_t step);

  void add(std::string_view key, double value);
  void add(std::string_view key, std::int64_t value);
  /// Appends every member of a JSON object, such as GlobalBatch::metrics. An empty text adds
  /// nothing. Errors: InvalidArgument if it is not an object.
  void add_object(std::string_view json);

  /// The line, without its newline.
  std::string to_json() const { return text_ + "}"; }

 private:
  void add_raw(std::string_view key, std::string_view value);

  std::string text_;
};

/// Appends records to a JSON-lines file, the truth about a run. One writer per file.
///
/// A run that resumes at step k drops what was logged at k and beyond before (those steps run
/// again) and a last line torn by a crash. A run that starts at 0 puts an earlier file aside as
/// metrics.1.jsonl, metrics.2.jsonl, ...
class MetricsWriter {
 public:
  /// `file` is created with its directory where missing. Errors: IoError with path and reason.
  MetricsWriter(std::filesystem::path file, std::int64_t first_step);
  ~MetricsWriter();
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;

  /// The line is with the operating system when this returns. Errors: IoError (disk full).
  void write(const MetricsRecord& record);

 private:
  std::filesystem::path file_;
  int descriptor_ = -1;
};

}  // namespace ringtrain
