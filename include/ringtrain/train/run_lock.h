#pragma once

#include <filesystem>

namespace ringtrain {

/// Keeps other jobs out of a run's directory while this lives, by a lock on the file `run.lock` in
/// it, which says who holds it. The system takes the lock away when the process ends, however it
/// ends. Where the file system has no locks, nothing is kept out.
class RunLock {
 public:
  /// Errors: IoError if another process holds it, naming that, or if the file cannot be written.
  explicit RunLock(const std::filesystem::path& run_directory);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace ringtrain
