#include "ringtrain/core/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

namespace ringtrain {

Log::Log(int rank, int num_ranks, bool every_rank, std::FILE* out, std::FILE* err)
    : rank_(rank),
      num_ranks_(num_ranks),
      every_rank_(every_rank),
      out_(out),
      err_(err),
      level_(environment_log_level()) {}

void Log::info(std::string_view text) const {
  if (level_ == LogLevel::kInfo) write(out_, "", text);
}

void Log::warning(std::string_view text) const {
  if (level_ != LogLevel::kQuiet) write(err_, "warning: ", text);
}

void Log::write(std::FILE* file, std::string_view kind, std::string_view text) const {
  if (rank_ != 0 && !every_rank_) return;
  const std::string prefix =
      every_rank_ && num_ranks_ > 1 ? fmt::format("[rank {}] {}", rank_, kind) : std::string(kind);
  std::string lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines += fmt::format("{}{}\n", prefix, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  // One write, so that the lines of ranks that share a terminal stay whole.
  std::fwrite(lines.data(), 1, lines.size(), file);
  std::fflush(file);
}

}  // namespace ringtrain
