#include "ringtrain/checkpoint/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

std::string text_of(int error) {
  return std::generic_category().message(error);
}

// Eight tables let the loop take eight bytes a turn (Kounavis and Berry, "A systematic approach to
// building high performance software-based CRC generators", ISCC 2005).
constexpr auto kCrcTables = [] {
  std::array<std::array<std::uint32_t, 256>, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xEDB88320u : 0u);
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xffu];
    }
  }
  return tables;
}();

}  // namespace

std::uint32_t crc32(std::uint32_t crc, const void* data, std::size_t bytes) {
  static_assert(std::endian::native == std::endian::little);
  const auto* at = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (; bytes >= 8; bytes -= 8, at += 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    word ^= crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= kCrcTables[7 - k][(word >> (8 * k)) & 0xffu];
  }
  for (; bytes > 0; --bytes, ++at) crc = (crc >> 8) ^ kCrcTables[0][(crc ^ *at) & 0xffu];
  return ~crc;
}

InputFile::InputFile(const fs::path& path)
    : path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) {
    throw IoError(fmt::format("cannot open {}: {}", path.string(), text_of(errno)));
  }
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw IoError(fmt::format("{} is not a regular file", path.string()));
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() {
  ::close(descriptor_);
}

void InputFile::read(void* out, std::size_t bytes, std::uint64_t offset) const {
  auto* at = static_cast<std::byte*>(out);
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor_, at, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      throw IoError(fmt::format("cannot read {} bytes at {} of {} ({} bytes): {}", bytes, offset,
                                path_.string(), size_,
                                got == 0 ? "the file ends before" : text_of(errno)));
    }
    at += got;
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::size_t>(got);
  }
}

OutputFile::OutputFile(const fs::path& path, std::uint64_t expected_bytes)
    : path_(path),
      descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) {
    throw IoError(fmt::format("cannot create {}: {}", path.string(), text_of(errno)));
  }
  if (expected_bytes == 0) return;
  const int status = ::fallocate(descriptor_, 0, 0, static_cast<off_t>(expected_bytes));
  if (status != 0 && (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)) {
    const int error = errno;
    ::close(descriptor_);
    fail("reserve", expected_bytes, error);
  }
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void OutputFile::fail(std::string_view operation, std::uint64_t bytes, int error) const {
  throw IoError(fmt::format("cannot {} {} bytes at {} of {}: {}", operation, bytes, size_,
                            path_.string(), text_of(error)));
}

void OutputFile::append(const void* data, std::size_t bytes) {
  const auto* at = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t put = ::write(descriptor_, at, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail("write", bytes, put == 0 ? ENOSPC : errno);
    crc32_ = ringtrain::crc32(crc32_, at, static_cast<std::size_t>(put));
    at += put;
    size_ += static_cast<std::uint64_t>(put);
    bytes -= static_cast<std::size_t>(put);
  }
}

void OutputFile::finish() {
  // Special files cannot be synchronised and say EINVAL.
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail("force to disk", size_, errno);
  const int status = ::close(descriptor_);
  descriptor_ = -1;
  if (status != 0) fail("close after", size_, errno);
}

std::string read_text(const fs::path& path) {
  const InputFile file(path);
  std::string text(file.size(), '\0');
  file.read(text.data(), text.size(), 0);
  return text;
}

void replace_text(const fs::path& path, std::string_view text) {
  fs::path beside = path;
  beside += ".tmp";
  {
    OutputFile file(beside);
    file.append(text.data(), text.size());
    file.finish();
  }
  if (std::rename(beside.c_str(), path.c_str()) != 0) {
    throw IoError(
        fmt::format("cannot rename {} to {}: {}", beside.string(), path.string(), text_of(errno)));
  }
  sync_directory(path.parent_path());
}

void sync_directory(const fs::path& directory) {
  const char* name = directory.empty() ? "." : directory.c_str();
  const int descriptor = ::open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) {
    throw IoError(fmt::format("cannot open directory {}: {}", name, text_of(errno)));
  }
  const int status = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  if (status != 0 && error != EINVAL) {  // some file systems have nothing to synchronise
    throw IoError(fmt::format("cannot force directory {} to disk: {}", name, text_of(error)));
  }
}

void replace_directory(const fs::path& from, const fs::path& to) {
  const auto fail = [&] {
    throw IoError(
        fmt::format("cannot rename {} to {}: {}", from.string(), to.string(), text_of(errno)));
  };
  std::error_code ignored;
  if (!fs::exists(to, ignored)) {
    if (std::rename(from.c_str(), to.c_str()) != 0) fail();
  } else if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(from, ignored);  // now the old contents
  } else {
    // No exchange here (some network file systems): the old directory steps aside first.
    fs::path aside = to;
    aside += ".old";
    fs::remove_all(aside, ignored);
    if (std::rename(to.c_str(), aside.c_str()) != 0) fail();
    if (std::rename(from.c_str(), to.c_str()) != 0) {
      const int error = errno;
      std::rename(aside.c_str(), to.c_str());
      errno = error;
      fail();
    }
    fs::remove_all(aside, ignored);
  }
  sync_directory(to.parent_path());
}

}  // namespace ringtrain
