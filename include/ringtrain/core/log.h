#pragma once

#include <cstdio>
#include <string_view>

#include "ringtrain/core/environment.h"

namespace ringtrain {

/// What one rank tells the user beside the metrics: the start banner, notices, warnings. A value
/// that is passed down; library code below the trainer throws and stays silent.
///
/// Rank 0 speaks for the job. With `every_rank` (--log_all_worker) all ranks do, each line of
/// more than one rank beginning with "[rank 3] ".
class Log {
 public:
  /// `out` takes information, `err` warnings; both stay the caller's. The level is that of
  /// RINGTRAIN_LOG_LEVEL. Errors: InvalidArgument if that variable is no level.
  Log(int rank, int num_ranks, bool every_rank, std::FILE* out = stdout, std::FILE* err = stderr);

  /// One or more lines of text, flushed.
  void info(std::string_view text) const;
  /// The same on `err`, each line beginning with "warning: ".
  void warning(std::string_view text) const;

 private:
  void write(std::FILE* file, std::string_view kind, std::string_view text) const;

  int rank_;
  int num_ranks_;
  bool every_rank_;
  std::FILE* out_;
  std::FILE* err_;
  LogLevel level_;
};

}  // namespace ringtrain
