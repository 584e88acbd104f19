#include "ringtrain/train/metrics.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

IoError metrics_error(const fs::path& file, std::string_view doing, std::string_view reason) {
  return IoError(
      fmt::format("cannot {} {}: {} (set by --logger.output_dir)", doing, file.string(), reason));
}

/// The step of a complete line; -1 for a line that is no record.
std::int64_t step_of(const std::string& line) {
  const Json record = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!record.is_object() || !record.contains("step")) return -1;
  const Json& step = record["step"];
  return step.is_number_integer() ? step.get<std::int64_t>() : -1;
}

/// Rewrites `file` with its records of steps before `first_step` only.
void keep_steps_before(const fs::path& file, std::int64_t first_step) {
  const fs::path rewritten = file.string() + ".tmp";
  {
    std::ifstream in(file, std::ios::binary);
    if (!in) throw metrics_error(file, "read", std::strerror(errno));
    std::ofstream out(rewritten, std::ios::binary | std::ios::trunc);
    for (std::string line; std::getline(in, line);) {
      const std::int64_t step = step_of(line);
      if (step >= 0 && step < first_step) out << line << '\n';
    }
    out.flush();
    if (!out) throw metrics_error(rewritten, "write", std::strerror(errno));
  }
  std::error_code error;
  fs::rename(rewritten, file, error);
  if (error) throw metrics_error(file, "replace", error.message());
}

/// Renames an earlier run's file to the first free NAME.n.EXTENSION.
void put_aside(const fs::path& file) {
  fs::path aside;
  for (int n = 1; aside.empty() || fs::exists(aside); ++n) {
    aside = file;
    aside.replace_filename(
        fmt::format("{}.{}{}", file.stem().string(), n, file.extension().string()));
  }
  std::error_code error;
  fs::rename(file, aside, error);
  if (error) throw metrics_error(file, "put aside the earlier", error.message());
}

}  // namespace

MetricsRecord::MetricsRecord(std::int64_t step) : text_(fmt::format("{{\"step\": {}", step)) {}

void MetricsRecord::add_raw(std::string_view key, std::string_view value) {
  text_ += fmt::format(", {}: {}", Json(key).dump(), value);
}

void MetricsRecord::add(std::string_view key, double value) {
  // {fmt} prints the shortest decimal that round-trips.
  add_raw(key, std::isfinite(value) ? fmt::format("{}", value) : "null");
}

void MetricsRecord::add(std::string_view key, std::int64_t value) {
  add_raw(key, std::to_string(value));
}

void MetricsRecord::add_object(std::string_view json) {
  if (json.empty()) return;
  const Json members = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!members.is_object()) {
    throw InvalidArgument(fmt::format("metrics must be a JSON object, got {}", json));
  }
  for (const auto& [key, value] : members.items()) add_raw(key, value.dump());
}

MetricsWriter::MetricsWriter(fs::path file, std::int64_t first_step) : file_(std::move(file)) {
  std::error_code error;
  if (file_.has_parent_path()) fs::create_directories(file_.parent_path(), error);
  if (error) throw metrics_error(file_.parent_path(), "create", error.message());
  if (fs::exists(file_, error)) {
    if (first_step > 0) {
      keep_steps_before(file_, first_step);
    } else if (fs::file_size(file_, error) > 0) {
      put_aside(file_);
    }
  }
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw metrics_error(file_, "open", std::strerror(errno));
}

MetricsWriter::~MetricsWriter() {
  ::close(descriptor_);
}

void MetricsWriter::write(const MetricsRecord& record) {
  const std::string line = record.to_json() + "\n";
  std::size_t written = 0;
  while (written < line.size()) {
    const ssize_t count = ::write(descriptor_, line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR) continue;  // a stop signal may arrive here
    if (count < 0) throw metrics_error(file_, "write", std::strerror(errno));
    written += static_cast<std::size_t>(count);
  }
}

}  // namespace ringtrain
