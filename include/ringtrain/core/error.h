#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace ringtrain {

/// Process exit codes; the same for every subcommand.
enum class ExitCode : int {
  kOk = 0,
  kCheckFailed = 1,      ///< `verify` or `selftest` found a difference; a run diverged
  kUsage = 2,            ///< command line or configuration
  kIo = 3,               ///< files and data
  kDevice = 4,           ///< GPU, communication, lost peer
  kStoppedBySignal = 75  ///< stopped with the state saved; a scheduler may requeue
};

/// An error with one line of cause and "while ..." lines of context added on its way up.
/// Thrown where the fact is known, printed once in main.
class Error : public std::exception {
 public:
  Error(ExitCode code, std::string cause) : code_(code), text_(std::move(cause)) {}

  const char* what() const noexcept override { return text_.c_str(); }
  int exit_code() const noexcept { return static_cast<int>(code_); }

  /// Appends "  while <doing>" on a line of its own.
  void add_context(std::string_view doing) {
    text_ += "\n  while ";
    text_ += doing;
  }

 private:
  ExitCode code_;
  std::string text_;
};

/// The user's input cannot be used: flag, configuration, shape, mesh. Exit code 2.
class InvalidArgument : public Error {
 public:
  explicit InvalidArgument(std::string cause) : Error(ExitCode::kUsage, std::move(cause)) {}
};

/// A file is missing, damaged, full or unwritable. Exit code 3.
class IoError : public Error {
 public:
  explicit IoError(std::string cause) : Error(ExitCode::kIo, std::move(cause)) {}
};

/// A device, its memory or a peer rank failed. Exit code 4.
class DeviceError : public Error {
 public:
  explicit DeviceError(std::string cause) : Error(ExitCode::kDevice, std::move(cause)) {}
};

/// Throws the Error that belongs to an exit code, such as one that another rank has met.
[[noreturn]] inline void throw_error(ExitCode code, const std::string& text) {
  switch (code) {
    case ExitCode::kUsage:
      throw InvalidArgument(text);
    case ExitCode::kIo:
      throw IoError(text);
    case ExitCode::kDevice:
      throw DeviceError(text);
    default:
      throw Error(code, text);
  }
}

/// Runs `body`; an Error passing through keeps its type and gains a "while <doing>" line.
template <typename Body>
decltype(auto) with_context(std::string_view doing, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (Error& error) {
    error.add_context(doing);
    throw;
  }
}

}  // namespace ringtrain
