#pragma once

#include <cstdint>
#include <string>

#include "ringtrain/core/error.h"
#include "ringtrain/data/batch.h"

namespace ringtrain {

/// What rank 0's feeder tells another rank's. Ranks of a job run the same program on machines of
/// the same byte order, so numbers travel as they lie in memory.
struct BatchMessage {
  enum class Kind : std::int64_t { kBatch, kError, kEnd };
  Kind kind = Kind::kEnd;
  std::int64_t number = 0;  ///< messages to this rank before it
  LocalBatch batch;         ///< of kBatch
  std::int64_t exit_code = 0;
  std::string error;  ///< of kError: the text of an Error with this exit code
};

std::string encode(const BatchMessage& message);
/// Errors: DeviceError if the bytes are not what `encode` made.
BatchMessage decode(const std::string& bytes);

/// The message of an error that is being handled: call it inside a catch block.
BatchMessage describe_current_error();
/// Throws what `message` of kind kError describes, with its type.
[[noreturn]] void throw_error(const BatchMessage& message);

}  // namespace ringtrain
