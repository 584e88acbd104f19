#include "ringtrain/train/run_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

std::string holder(int descriptor) {
  std::array<char, 256> text{};
  const ssize_t bytes = pread(descriptor, text.data(), text.size(), 0);
  return bytes > 0 ? std::string(text.data(), static_cast<std::size_t>(bytes)) : "another process";
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& run_directory) {
  const std::string path = run_directory / "run.lock";
  descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw IoError(fmt::format("cannot write {}: {}", path, strerror(errno)));
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return;  // no locks here
    const std::string text = holder(descriptor_);
    close(descriptor_);
    throw IoError(
        fmt::format("{} writes to {} already; wait for its end, or give another "
                    "--logger.output_dir",
                    text, run_directory.string()));
  }
  std::array<char, 128> host{};
  gethostname(host.data(), host.size() - 1);
  const std::string text = fmt::format("process {} on {}", getpid(), host.data());
  if (ftruncate(descriptor_, 0) != 0 ||
      pwrite(descriptor_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    const int error = errno;
    close(descriptor_);
    throw IoError(fmt::format("cannot write {}: {}", path, strerror(error)));
  }
}

RunLock::~RunLock() {
  close(descriptor_);
}

}  // namespace ringtrain
